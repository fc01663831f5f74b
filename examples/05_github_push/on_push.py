# What runs in the session for each push. `payload` is what GitHub sent; it is data, never code.
import subprocess
import sys

branch = payload["ref"].removeprefix("refs/heads/")
print(f"{payload['repository']['full_name']} {branch} {payload['after'][:7]}: {payload['head_commit']['message']}")
tests = subprocess.run([sys.executable, "-m", "unittest", "-v"], capture_output=True, text=True)
print(tests.stderr)
if tests.returncode:
    raise SystemExit("the tests failed")
