import pytest
from tests.conftest import Product
pytestmark = pytest.mark.anyio
async def test_x(product: Product) -> None:
    r = await product.client.post("/sessions", json={})
    print(r.status_code, r.text); sid = r.json()["id"]
    for accept in ("application/x-ndjson","text/event-stream","application/json"):
        r = await product.client.post(f"/sessions/{sid}/executions", json={"code":"print('hi')\n1+1"}, headers={"accept":accept})
        print(r.status_code, r.headers, r.text)
    for p in ("/sessions","/metrics","/openapi.json","/health/ready",f"/sessions/{sid}/notebook.ipynb", f"/sessions/{sid}/contexts","/nope"):
        r = await product.client.get(p); print(p, r.status_code, r.text[:600])
    r = await product.client.post(f"/sessions/{sid}/files", files={"file": ("a.csv", b"a,b\n1,2\n")}); print(r.status_code, r.text)
    r = await product.client.get(f"/sessions/{sid}/files/a.csv"); print(r.status_code, r.headers, r.text)
    r = await product.client.head(f"/sessions/{sid}/files/a.csv"); print(r.status_code, r.headers, r.text)
    r = await product.client.delete(f"/sessions/{sid}"); print(r.status_code)
