"""Files of a session: in by form or by PUT, out whole or in ranges, and nothing from outside the folder."""

import concurrent.futures
import contextlib
import hashlib
import json
import random
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import httpx
import pytest

from tests.platform.conftest import Session, failure, gate, temporary_session
from tests.platform.served import NO_POOL, home

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))
MIB = 1024**2
CSV = ("text/csv", b"a,b\n1,2\n3,4\n")


@pytest.fixture(scope="module")
def session(client: httpx.Client) -> Iterator[Session]:
    with temporary_session(client) as made:
        yield made


def url(session: Session, path: str = "") -> str:
    return f"{session.path}/files/{urllib.parse.quote(path)}" if path else f"{session.path}/files"


def put(session: Session, path: str, content: bytes) -> None:
    assert session.client.put(url(session, path), content=content).status_code == 201


def get(session: Session, path: str, **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return session.client.get(url(session, path), headers=named)


def listed(session: Session) -> list[str]:
    return [entry["path"] for entry in session.client.get(url(session)).json()["files"]]


def sent_as_form(session: Session, *names: str, content: bytes = CSV[1]) -> httpx.Response:
    """Upload files under these names, as a browser would."""
    return session.client.post(url(session), files=[("file", (name, content)) for name in names])


def sent_as_body(
    session: Session, body: bytes, content_type: str = "multipart/form-data; boundary=X"
) -> httpx.Response:
    """Upload a form written by hand."""
    return session.client.post(url(session), content=body, headers={"Content-Type": content_type})


def form_part(disposition: str, content: str = "text") -> bytes:
    return f"--X\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n".encode()


@contextlib.contextmanager
def connected(session: Session) -> Iterator[socket.socket]:
    """A connection on which requests are written by hand."""
    base = session.client.base_url
    with socket.create_connection((base.host, base.port or 80), timeout=200) as connection:
        yield connection


def head_of(session: Session, method: str, path: str, *headers: str) -> bytes:
    lines = (f"{method} {session.path}/files{path} HTTP/1.1", "Host: localhost", "Connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode()


def answer(connection: socket.socket) -> bytes:
    """Return all that comes until the server closes the connection."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


# What goes in comes out


def test_an_uploaded_file_is_what_user_code_opens_by_both_its_names(session: Session) -> None:
    reply = sent_as_form(session, "sales.csv")
    assert reply.status_code == 201
    assert [entry["path"] for entry in reply.json()["files"]] == ["sales.csv"]
    assert session.said("print(open('sales.csv').read() == open('/uploaded_files/sales.csv').read())") == "True\n"
    assert session.said("import pandas; print(pandas.read_csv('sales.csv').b.sum())") == "6\n"


def test_several_files_of_one_form_are_stored_and_told_in_order(session: Session) -> None:
    reply = sent_as_form(session, "form-b.csv", "form-a.txt", "form-c.json", content=b"[1]")
    assert [entry["path"] for entry in reply.json()["files"]] == ["form-b.csv", "form-a.txt", "form-c.json"]
    assert [path for path in listed(session) if path.startswith("form-")] == ["form-a.txt", "form-b.csv", "form-c.json"]


def test_other_fields_of_a_form_are_passed_over(session: Session) -> None:
    reply = session.client.post(url(session), data={"note": "hello"}, files={"file": ("noted.csv", CSV[1])})
    assert [entry["path"] for entry in reply.json()["files"]] == ["noted.csv"]


def test_a_file_is_listed_with_size_type_and_time(session: Session) -> None:
    put(session, "listed.csv", CSV[1])
    entry = next(entry for entry in session.client.get(url(session)).json()["files"] if entry["path"] == "listed.csv")
    assert (entry["size_bytes"], entry["media_type"]) == (len(CSV[1]), CSV[0])
    age = datetime.now(UTC) - datetime.fromisoformat(entry["modified_at"])
    assert abs(age) < timedelta(minutes=5)


def test_what_code_writes_can_be_downloaded_also_from_a_folder(session: Session) -> None:
    session.said("import os; os.makedirs('made/here', exist_ok=True); open('made/here/x.bin', 'wb').write(bytes(1000))")
    assert "made/here/x.bin" in listed(session)
    reply = get(session, "made/here/x.bin")
    assert (reply.status_code, reply.content) == (200, bytes(1000))
    assert reply.headers["Content-Disposition"].startswith('attachment; filename="x.bin"')


def test_an_empty_file_that_code_wrote_is_downloaded_as_empty(session: Session) -> None:
    session.said("open('nothing.txt', 'w').close()")
    reply = get(session, "nothing.txt")
    assert (reply.status_code, reply.content) == (200, b"")
    assert failure(get(session, "nothing.txt", range="bytes=0-")) == (416, "range_not_satisfiable")


def test_a_file_can_be_put_into_a_folder_and_replaced(session: Session) -> None:
    put(session, "data/2024/a.csv", b"old,old,old\n")
    put(session, "data/2024/a.csv", b"new\n")
    assert get(session, "data/2024/a.csv").content == b"new\n"
    assert session.said("print(open('data/2024/a.csv').read())") == "new\n\n"


def test_a_deleted_file_is_gone_for_everybody(session: Session) -> None:
    put(session, "gone.csv", CSV[1])
    assert session.client.delete(url(session, "gone.csv")).status_code == 204
    assert failure(get(session, "gone.csv")) == (404, "file_not_found")
    assert failure(session.client.delete(url(session, "gone.csv"))) == (404, "file_not_found")
    assert session.said("import os; print(os.path.exists('gone.csv'))") == "False\n"


def test_many_megabytes_come_out_byte_for_byte(session: Session) -> None:
    content = random.Random(4).randbytes(30 * MIB).replace(b"\0", b"\1")  # noise in a .txt, which may not have NUL
    put(session, "big.txt", content)
    assert (
        session.said("import hashlib; print(hashlib.sha256(open('big.txt', 'rb').read()).hexdigest())").strip()
        == hashlib.sha256(content).hexdigest()
    )
    assert hashlib.sha256(get(session, "big.txt").content).digest() == hashlib.sha256(content).digest()
    assert sent_as_form(session, "big-form.txt", content=content).status_code == 201
    assert hashlib.sha256(get(session, "big-form.txt").content).digest() == hashlib.sha256(content).digest()
    for name in ("big.txt", "big-form.txt"):
        session.client.delete(url(session, name))


def test_a_form_whose_content_looks_like_a_boundary_is_stored_as_it_is(session: Session) -> None:
    content = b"--X\r\n--X--\r\n\r\n--" * 5000
    assert sent_as_form(session, "edges.txt", content=content).status_code == 201
    assert get(session, "edges.txt").content == content


def test_a_file_is_uploaded_while_code_runs(session: Session) -> None:
    with session.begun("print('begun', flush=True)\n" + gate("while") + "print(open('during.csv').read())") as running:
        assert next(output for output in running.outputs if output["type"] == "stream")
        put(session, "during.csv", b"there")
        session.open_gate("while")
        assert any("there" in output.get("text", "") for output in running.outputs)


# Parts of a file


@pytest.mark.parametrize(
    ("wanted", "content", "told"),
    [
        ("bytes=0-3", b"0123", "bytes 0-3/10"),
        ("bytes=4-6", b"456", "bytes 4-6/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-4", b"6789", "bytes 6-9/10"),
        ("bytes=-40", b"0123456789", "bytes 0-9/10"),
        ("bytes=8-400", b"89", "bytes 8-9/10"),
    ],
)
def test_a_range_is_that_part_of_the_file(session: Session, wanted: str, content: bytes, told: str) -> None:
    put(session, "digits.txt", b"0123456789")
    reply = get(session, "digits.txt", range=wanted)
    assert (reply.status_code, reply.content, reply.headers["Content-Range"]) == (206, content, told)


@pytest.mark.parametrize("wanted", ["bytes=10-", "bytes=-0", "bytes=50-60"])
def test_a_range_that_the_file_does_not_have_is_told_with_its_size(session: Session, wanted: str) -> None:
    put(session, "digits.txt", b"0123456789")
    reply = get(session, "digits.txt", range=wanted)
    assert failure(reply) == (416, "range_not_satisfiable")
    assert reply.headers["Content-Range"] == "bytes */10"


@pytest.mark.parametrize("wanted", ["bytes=0-1,5-6", "bytes=", "lines=1-2", "bytes=a-b", "bytes=" + "9" * 5000 + "-"])
def test_ranges_that_are_not_served_give_the_whole_file(session: Session, wanted: str) -> None:
    put(session, "digits.txt", b"0123456789")
    reply = get(session, "digits.txt", range=wanted)
    assert (reply.status_code, reply.content) == (200, b"0123456789")


def test_a_download_goes_on_only_if_the_file_is_the_same(session: Session) -> None:
    put(session, "resumed.txt", b"0123456789")
    tag = get(session, "resumed.txt").headers["ETag"]
    assert get(session, "resumed.txt", range="bytes=5-", if_range=tag).content == b"56789"
    put(session, "resumed.txt", b"abcdefghijk")
    changed = get(session, "resumed.txt", range="bytes=5-", if_range=tag)
    assert (changed.status_code, changed.content) == (200, b"abcdefghijk")


def test_an_unchanged_file_is_not_sent_again(session: Session) -> None:
    put(session, "cached.txt", b"old")
    first = get(session, "cached.txt")
    assert parsedate_to_datetime(first.headers["Last-Modified"]).tzinfo is not None
    again = get(session, "cached.txt", if_none_match=first.headers["ETag"])
    assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", first.headers["ETag"])
    put(session, "cached.txt", b"new")
    assert get(session, "cached.txt", if_none_match=first.headers["ETag"]).content == b"new"


def test_head_tells_what_get_would_send(session: Session) -> None:
    put(session, "headed.csv", CSV[1])
    for asked in ({}, {"Range": "bytes=0-1"}):
        head = session.client.head(url(session, "headed.csv"), headers=asked)
        assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(CSV[1])))
        assert head.headers["ETag"] == get(session, "headed.csv").headers["ETag"]
    assert session.client.head(url(session, "not-there.csv")).status_code == 404


def test_a_page_that_code_wrote_never_runs_as_one_of_ours(session: Session) -> None:
    session.said("open('page.html', 'w').write('<script>alert(1)</script>')")
    headers = get(session, "page.html").headers
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in headers["Content-Security-Policy"]


# Names


@pytest.mark.parametrize(
    "name",
    [
        "größe.csv",
        "売上 2024.csv",
        "📊 plan.csv",
        "👩‍👩‍👧 family.csv",
        "می‌خواهم.csv",
        'the "best" 100%.csv',
        "a;b=c&d+e#f?.csv",
    ],
)
def test_names_of_every_script_survive_both_ways(session: Session, name: str) -> None:
    assert sent_as_form(session, name).json()["files"][0]["path"] == name
    assert name in listed(session)
    assert session.said(f"print(open({name!r}).readline())") == "a,b\n\n"
    disposition = get(session, name).headers["Content-Disposition"]
    found = re.fullmatch(r"attachment; filename=\"([ -~]+)\"; filename\*=UTF-8''(.+)", disposition)
    assert found is not None
    assert urllib.parse.unquote(found[2]) == name
    assert found[1].endswith(".csv")
    put(session, name, b"put")
    assert get(session, name).content == b"put"
    assert session.client.delete(url(session, name)).status_code == 204


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("C:\\\\Users\\\\me\\\\report.csv", "report.csv"),
        ("..\\\\up.csv", "up.csv"),
        ("/etc/cron.d/job.csv", "job.csv"),
        ("../../up.csv", "up.csv"),
        ("two%0D%0Alines.csv", "twolines.csv"),
        ("right\u202etfel.csv", "righttfel.csv"),
        ("cafe\u0301.csv", "caf\u00e9.csv"),
        ("n" * 300 + ".csv", "n" * 196 + ".csv"),
        ("\u00e9" * 300 + ".csv", "\u00e9" * 98 + ".csv"),
    ],
)
def test_a_name_from_a_form_is_made_safe_and_stays_readable(session: Session, given: str, stored: str) -> None:
    reply = sent_as_body(session, form_part(f'name="file"; filename="{given}"') + b"--X--\r\n")
    assert reply.json()["files"][0]["path"] == stored


@pytest.mark.parametrize("name", ["", "...", "%0A", "/", ".upload-1.csv", "x." + "y" * 300])
def test_a_name_of_which_nothing_can_be_made_is_refused(session: Session, name: str) -> None:
    reply = sent_as_body(session, form_part(f'name="file"; filename="{name}"') + b"--X--\r\n")
    assert failure(reply) == (400, "invalid_path")


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
@pytest.mark.parametrize(
    "path",
    [
        *("../record.json", "%2e%2e%2frecord.json", "a/..%2f..%2ftoken", "a/../../token", "..%5ctoken"),
        *("/etc/passwd", "%2Fetc%2Fpasswd", ".", "..", "a//b.csv", "a/./b.csv", ""),
        *(
            "two%0Alines.csv",
            "nul%00.csv",
            "esc%1b.csv",
            "%7f.csv",
            ".upload-0123.csv",
            "d/" * 16 + "deep.csv",
            "n" * 201,
        ),
    ],
)
def test_a_path_that_leaves_the_folder_or_is_none_is_refused(session: Session, method: str, path: str) -> None:
    with connected(session) as connection:
        body = b"a,b\n" if method == "PUT" else b""
        connection.sendall(head_of(session, method, f"/{path}", f"Content-Length: {len(body)}") + body)
        told = answer(connection)
    assert told.startswith(b"HTTP/1.1 400 "), told
    assert method == "HEAD" or b'"invalid_path"' in told


def test_bytes_that_are_no_utf8_name_no_file(session: Session) -> None:
    session.said("open(b'bad-\\xff.txt', 'w').write('x')")
    assert not any(path.startswith("bad-") for path in listed(session))
    assert session.client.get(f"{session.path}/files/bad-%FF.txt").status_code in (400, 404)


def test_links_that_code_makes_lead_nowhere(session: Session) -> None:
    session.said("""
import os
os.makedirs("real", exist_ok=True)
open("real/inside.txt", "w").write("inside")
for target, name in (
    ("/etc/passwd", "link.txt"), ("/etc", "etc"), ("/journal", "journal"), ("/run/caesarion", "run"), ("..", "up"),
    ("real", "folder"), ("/uploaded_files/real/inside.txt", "absolute.txt"), ("loop", "loop"),
):
    os.symlink(target, name)
""")
    paths = ("link.txt", "etc/passwd", "journal/life.json", "run/control.sock", "up/etc/passwd", "loop")
    for path in (*paths, "folder/inside.txt", "absolute.txt"):
        assert path not in listed(session)
        assert failure(get(session, path)) == (404, "file_not_found")
    assert not any(path.startswith(("etc/", "journal/", "run/", "up/", "folder/")) for path in listed(session))
    for path in ("etc/new.csv", "journal/new.csv", "up/new.csv"):
        assert session.client.put(url(session, path), content=b"x").status_code in (400, 404)
    put(session, "link.txt", b"in place of the link")
    assert session.said("print(os.path.islink('link.txt'), open('link.txt').read())") == "False in place of the link\n"


def test_pipes_and_sockets_that_code_makes_keep_nobody_waiting(session: Session) -> None:
    session.said("import os, socket; os.mkfifo('pipe.txt'); socket.socket(socket.AF_UNIX).bind('socket.txt')")
    for name in ("pipe.txt", "socket.txt"):
        assert name not in listed(session)
        assert failure(get(session, name)) == (404, "file_not_found")
    put(session, "pipe.txt", b"a file now")
    assert get(session, "pipe.txt").content == b"a file now"


def test_a_folder_is_no_file(session: Session) -> None:
    session.said("import os; os.makedirs('folder.csv', exist_ok=True)")
    assert failure(get(session, "folder.csv")) == (404, "file_not_found")
    assert failure(session.client.put(url(session, "folder.csv"), content=b"x")) == (400, "invalid_path")
    assert failure(session.client.delete(url(session, "folder.csv"))) == (404, "file_not_found")


def test_a_folder_that_cannot_be_written_into_is_told(session: Session) -> None:
    put(session, "file.csv", CSV[1])
    session.said(
        "import os; os.makedirs('locked', exist_ok=True); os.chmod('locked', 0o555); os.symlink('/tmp', 'tmp')"
    )
    for path in ("file.csv/a.csv", "locked/a.csv", "locked/new/a.csv", "tmp/a.csv"):
        assert failure(session.client.put(url(session, path), content=b"x")) == (400, "invalid_path")


def test_files_of_an_unknown_session_are_not_found(session: Session) -> None:
    nobody = Session("nobody", session.client)
    assert failure(session.client.get(url(nobody))) == (404, "session_not_found")
    assert failure(get(nobody, "a.csv")) == (404, "session_not_found")
    assert failure(session.client.put(url(nobody, "a.csv"), content=b"x")) == (404, "session_not_found")
    assert failure(sent_as_form(nobody, "a.csv")) == (404, "session_not_found")
    assert failure(session.client.delete(url(nobody, "a.csv"))) == (404, "session_not_found")


# What is not taken


def test_an_empty_upload_is_refused_and_the_earlier_file_stays(session: Session) -> None:
    put(session, "kept.csv", b"kept")
    assert failure(session.client.put(url(session, "kept.csv"), content=b"")) == (400, "empty_file")
    assert failure(sent_as_form(session, "kept.csv", content=b"")) == (400, "empty_file")
    assert get(session, "kept.csv").content == b"kept"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("picture.csv", PNG),
        ("archive.txt", b"PK\x03\x04rest"),
        ("program.py", b"\x7fELF\x02\x01"),
        ("nul.csv", b"a,b\n\0"),
        ("wrong.json", b"{'a': 1}"),
        ("cut.json", b'{"a": [1, 2'),
        ("program.exe", b"MZ"),
        ("picture.png", PNG),
        ("noextension", b"text"),
        (".csv", b"text"),
    ],
)
def test_content_that_is_not_what_its_name_says_is_refused(session: Session, name: str, content: bytes) -> None:
    assert failure(sent_as_form(session, name, content=content)) == (415, "unsupported_type")
    assert failure(session.client.put(url(session, name), content=content)) == (415, "unsupported_type")
    assert name not in listed(session)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("wide.csv", "a,b\n1,2\n".encode("utf-16")),
        ("bom.json", b'\xef\xbb\xbf{"a": 1}'),
        ("UPPER.CSV", b"a,b\n"),
        ("latin.csv", "größe\n".encode("latin-1")),
        ("code.py", b"print(1)\n"),
    ],
)
def test_text_of_every_encoding_is_taken(session: Session, name: str, content: bytes) -> None:
    assert sent_as_form(session, name, content=content).status_code == 201
    assert get(session, name).content == content


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"--X--\r\n", "invalid_form"),
        (form_part('name="note"') + b"--X--\r\n", "invalid_form"),
        (form_part('name="file"') + b"--X--\r\n", "invalid_form"),
        (form_part('name="other"; filename="a.csv"') + b"--X--\r\n", "invalid_form"),
        (b"no form at all", "invalid_form"),
        (b"", "upload_incomplete"),
        (form_part('name="file"; filename="cut.csv"'), "upload_incomplete"),
        (b'--X\r\nContent-Disposition: form-data; name="file"; filename="cut.csv"\r\n', "upload_incomplete"),
    ],
)
def test_a_form_that_has_no_file_or_cannot_be_read_is_refused(session: Session, body: bytes, code: str) -> None:
    assert failure(sent_as_body(session, body)) == (400, code)
    assert "cut.csv" not in listed(session)


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "text/csv",
        "",
        f"multipart/form-data; boundary={'x' * 500}",
    ],
)
def test_an_upload_that_is_no_form_is_told_what_is_expected(session: Session, content_type: str) -> None:
    reply = sent_as_body(session, form_part('name="file"; filename="a.csv"') + b"--X--\r\n", content_type)
    assert failure(reply) == (400, "invalid_form")


def test_files_before_a_refused_one_are_stored_and_those_after_it_are_not(session: Session) -> None:
    parts = [("file", (name, b"text")) for name in ("before.csv", "refused.exe", "after.csv")]
    assert failure(session.client.post(url(session), files=parts)) == (415, "unsupported_type")
    assert "before.csv" in listed(session)
    assert not {"refused.exe", "after.csv"} & set(listed(session))


def test_a_form_of_two_thousand_parts_is_refused(session: Session) -> None:
    body = b"".join(form_part(f'name="field{number}"', "") for number in range(2000)) + b"--X--\r\n"
    assert failure(sent_as_body(session, body)) == (400, "invalid_form")


# Too much


def test_a_body_that_announces_200_mb_is_refused_before_it_is_sent(session: Session) -> None:
    with connected(session) as connection:
        connection.sendall(head_of(session, "PUT", "/big.csv", f"Content-Length: {200 * MIB}", "Expect: 100-continue"))
        told = answer(connection)
    assert told.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in told


@pytest.mark.parametrize("form", [False, True])
def test_a_body_of_200_mb_that_announces_nothing_is_refused_while_it_comes(session: Session, form: bool) -> None:
    sent_bytes = 0

    def body() -> Iterator[bytes]:
        nonlocal sent_bytes
        yield form_part('name="file"; filename="big.csv"')[:-6] if form else b"a,b\n"
        for _ in range(200):
            sent_bytes += MIB
            yield b"x" * MIB

    content_type = {"Content-Type": "multipart/form-data; boundary=X"} if form else {}
    method, where = ("POST", url(session)) if form else ("PUT", url(session, "big.csv"))
    reply = session.client.request(method, where, content=body(), headers=content_type)
    assert failure(reply) == (413, "file_too_large")
    assert sent_bytes >= 100 * MIB
    assert "big.csv" not in listed(session)


def test_an_upload_cut_in_the_middle_leaves_nothing_and_keeps_the_earlier_file(session: Session) -> None:
    put(session, "halved.csv", b"whole")
    begun = head_of(session, "PUT", "/halved.csv", "Content-Length: 1000000") + b"x" * 500_000
    chunked = head_of(session, "PUT", "/halved.csv", "Transfer-Encoding: chunked") + b"5\r\nhello\r\n"
    part = form_part('name="file"; filename="halved.csv"')[:-2]
    form = head_of(session, "POST", "", "Content-Type: multipart/form-data; boundary=X", "Content-Length: 9999") + part
    for sent in (begun, chunked, form):
        with connected(session) as connection:
            connection.sendall(sent)
            session.said("import glob, time\nwhile not glob.glob('.upload-*'): time.sleep(0.01)")
        session.said("while glob.glob('.upload-*'): time.sleep(0.01)")
    assert get(session, "halved.csv").content == b"whole"
    assert not any("upload" in path for path in listed(session))


def test_two_uploads_of_one_name_at_once_leave_one_of_them_whole(session: Session) -> None:
    half_sent = threading.Barrier(2)

    def upload(letter: bytes) -> int:
        def body() -> Iterator[bytes]:
            yield letter * MIB
            half_sent.wait(200)
            yield letter * MIB

        return httpx.put(
            f"{session.client.base_url}{url(session, 'both.txt')}", content=body(), timeout=200
        ).status_code

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(upload, (b"a", b"b"))) == [201, 201]
    assert get(session, "both.txt").content in (b"a" * 2 * MIB, b"b" * 2 * MIB)


def test_an_upload_refused_early_does_not_disturb_those_after_it(session: Session) -> None:
    for _ in range(5):
        assert session.client.put(url(session, "no.exe"), content=b"x" * 5 * MIB).status_code == 415
        put(session, "yes.txt", b"yes")


def test_an_operator_can_allow_more_types_and_less_disk() -> None:
    with (
        home() as place,
        place.serve(
            CAESARION_SANDBOX_DISK_BYTES=str(4 * MIB), CAESARION_UPLOAD_TYPES=".PNG, parquet", **NO_POOL
        ) as served,
        temporary_session(served.client) as session,
    ):
        put(session, "picture.png", PNG)
        assert get(session, "picture.png").headers["Content-Type"] == "image/png"
        assert failure(sent_as_form(session, "page.html")) == (415, "unsupported_type")
        put(session, "half.txt", b"x" * 3 * MIB)
        for _ in range(2):
            assert failure(sent_as_form(session, "more.txt", content=b"x" * 2 * MIB)) == (413, "disk_full")
        assert listed(session) == ["half.txt", "picture.png"]
        session.client.delete(url(session, "half.txt"))
        put(session, "more.txt", b"x" * 2 * MIB)


def test_json_that_is_listed_can_be_parsed_by_everybody(session: Session) -> None:
    session.said("open('\\u2028\\u00e9.txt', 'w').write('x')")
    json.loads(session.client.get(url(session)).text.encode("ascii"))
