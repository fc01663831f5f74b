# `payload` is the data of the event that the check's execution ended with.
import json

odd = json.loads(payload["text"]) if payload["status"] == "ok" else []
print(f"{len(odd)} odd readings: {odd}" if odd else "all is well")
