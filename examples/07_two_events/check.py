# `payload` is the data of the event; `history` stays in the session.
import statistics

if "history" not in globals():
    history = []
history += payload["celsius"]
middle = statistics.median(history)
print([reading for reading in payload["celsius"] if abs(reading - middle) > 20])
