#!/bin/sh
# A session by curl: variables stay from one execution to the next, and outputs come while the code runs.
# Start the product with `make run`, then run this. CAESARION_URL names another address.
set -eu
url=${CAESARION_URL:-http://127.0.0.1:8080}/sessions/first

run() {
  echo "> $1"
  curl -sSfN "$url/executions" -H 'Content-Type: application/json' -d "{\"code\": \"$1\"}"
}

curl -sSf -X POST "$url/initialize" >/dev/null
run 'x = 41'
run 'x + 1'
run 'import time\nfor n in range(3): print(n, flush=True); time.sleep(0.2)'
curl -sSf -X DELETE "$url"
