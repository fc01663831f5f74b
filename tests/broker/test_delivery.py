"""Deliveries as a subscriber sees them: what comes, when it comes again, and what becomes of answers."""

import asyncio
import contextlib
import sqlite3
from dataclasses import replace
from typing import Any

import pytest
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from caesarion.adapters.broker_tables import Bounds
from caesarion.errors import InvalidRequest, NotFound, SandboxUnavailable, TooLarge
from caesarion.ids import PrincipalId
from caesarion.triggers import Delivery, Match, Trigger, hook_trigger
from tests.broker.conftest import (
    ANN,
    MADE,
    Brokers,
    Clock,
    Delivered,
    Log,
    Subscriber,
    event,
    listening,
    reply_of,
    served,
    trigger,
)

pytestmark = pytest.mark.anyio

UNAVAILABLE = 503


async def test_an_event_comes_to_a_path_of_the_same_process_in_its_owners_name(
    brokers: Brokers, subscriber: Subscriber
) -> None:
    broker = await brokers.start(subscriber.app, [trigger()])
    await broker.send(event("7", data={"n": 1}, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01"), ANN)
    got = await subscriber.next()
    assert (got.path, got.principal) == ("/events/made", "ann")
    assert got.event == event("7", data={"n": 1}, traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    assert got.headers["prefer"] == "reply"
    assert got.headers["traceparent"].startswith("00-aaaa")


async def test_an_event_comes_to_a_url_without_anybodys_name(brokers: Brokers, subscriber: Subscriber) -> None:
    async with served(subscriber.app) as url:
        broker = await brokers.start(Subscriber().app, [trigger(subscriber=f"{url}/events/far")])
        await broker.send(event(data="ü"), ANN)
        got = await subscriber.next()
        assert (got.path, got.principal) == ("/events/far", None)
        assert got.event == event(data="ü")
        await brokers.close()


async def test_a_hook_is_named_to_execute(brokers: Brokers, subscriber: Subscriber) -> None:
    broker = await brokers.start(subscriber.app, [hook_trigger("on-order", ())])
    await broker.send(event(), ANN)
    assert (await subscriber.next()).path == "/events/execute?hook=on-order"


async def test_each_trigger_gets_what_passes_its_filter_and_others_nothing(
    brokers: Brokers, subscriber: Subscriber
) -> None:
    triggers = [trigger("a"), trigger("b", subscriber="/events/again"), trigger("c", kind="com.example.other")]
    broker = await brokers.start(subscriber.app, triggers)
    await broker.send(event("1"), ANN)
    await broker.send(event("2", kind="com.example.unknown"), ANN)
    await broker.send(event("3", kind="com.example.other"), ANN)
    got = await subscriber.next_ones(3)
    assert sorted((one.event.id, one.path) for one in got) == [
        ("1", "/events/again"),
        ("1", "/events/made"),
        ("3", "/events/made"),
    ]


@pytest.mark.parametrize("status", [404, 408, 409, 429, 500, 503])
async def test_what_may_pass_is_tried_again_after_growing_pauses(
    brokers: Brokers, subscriber: Subscriber, clock: Clock, status: int
) -> None:
    subscriber.answers = [lambda _: Response(status_code=status)] * 3
    broker = await brokers.start(subscriber.app, [trigger(delivery=Delivery(backoff_delay_s=0.2))])
    await broker.send(event(), ANN)
    for pause_s in (0.2, 0.4, 0.8):
        await subscriber.next()
        assert await clock.next_sleep() == pause_s
        clock.advance(pause_s)
    assert (await subscriber.next()).event == event()
    await brokers.close()
    assert len(subscriber.got) == 4


async def test_linear_pauses_grow_by_the_same_time(brokers: Brokers, subscriber: Subscriber, clock: Clock) -> None:
    subscriber.answers = [lambda _: Response(status_code=UNAVAILABLE)] * 3
    delivery = Delivery(backoff_policy="linear", backoff_delay_s=2)
    broker = await brokers.start(subscriber.app, [trigger(delivery=delivery)])
    await broker.send(event(), ANN)
    for pause_s in (2, 4, 6):
        await subscriber.next()
        assert await clock.next_sleep() == pause_s
        clock.advance(pause_s)
    await subscriber.next()


@pytest.mark.parametrize("asked", ["30", "Thu, 28 May 2026 20:27:10 GMT"])
async def test_a_retry_after_is_obeyed(brokers: Brokers, subscriber: Subscriber, clock: Clock, asked: str) -> None:
    subscriber.answers = [lambda _: Response(status_code=UNAVAILABLE, headers={"Retry-After": asked})]
    broker = await brokers.start(subscriber.app, [trigger()])
    await broker.send(event(), ANN)
    await subscriber.next()
    assert await clock.next_sleep() == 30
    clock.advance(29.9)
    assert len(subscriber.got) == 1
    clock.advance(0.1)
    await subscriber.next()


async def test_a_retry_after_of_another_status_or_past_its_bound_counts_no_more_than_that(
    brokers: Brokers, subscriber: Subscriber, clock: Clock
) -> None:
    asked = {"Retry-After": "30"}
    subscriber.answers = [
        lambda _: Response(status_code=500, headers=asked),
        lambda _: Response(status_code=429, headers=asked),
        lambda _: Response(status_code=429, headers={"Retry-After": "soon"}),
    ]
    broker = await brokers.start(subscriber.app, [trigger(delivery=Delivery(backoff_delay_s=1, retry_after_max_s=7))])
    await broker.send(event(), ANN)
    for pause_s in (1, 7, 4):
        await subscriber.next()
        assert await clock.next_sleep() == pause_s
        clock.advance(pause_s)
    await subscriber.next()


async def test_a_refusal_is_not_tried_again_and_is_kept_with_its_reason(
    brokers: Brokers, subscriber: Subscriber, log: Log
) -> None:
    subscriber.answers = [
        lambda _: JSONResponse({"error": {"code": "x", "message": "No such thing.", "id": "r"}}, status_code=400)
    ]
    broker = await brokers.start(subscriber.app, [trigger()])
    await broker.send(event("9", data=[1]), ANN)
    await log.line("event undeliverable")
    (letter,) = await broker.dead(ANN)
    assert (letter.trigger, letter.attempts, letter.status, letter.reason) == ("made", 1, 400, "No such thing.")
    assert (letter.event.id, letter.event.data, letter.data_bytes) == ("9", None, 3)
    assert (await broker.dead_letter(ANN, letter.id)).event == event("9", data=[1])
    assert await broker.dead(PrincipalId("bob")) == []


async def test_after_its_retries_an_event_is_a_dead_letter_that_can_be_sent_again(
    brokers: Brokers, subscriber: Subscriber, clock: Clock, log: Log
) -> None:
    subscriber.answers = [lambda _: Response(status_code=UNAVAILABLE)] * 3
    broker = await brokers.start(subscriber.app, [trigger(delivery=Delivery(retry=2, backoff_delay_s=1))])
    await broker.send(event(), ANN)
    for pause_s in (1, 2):
        assert await clock.next_sleep() == pause_s
        clock.advance(pause_s)
    await log.line("event undeliverable")
    (letter,) = await broker.dead(ANN)
    assert (letter.attempts, letter.status) == (3, UNAVAILABLE)
    with pytest.raises(NotFound):
        await broker.resend(PrincipalId("bob"), letter.id)
    await broker.resend(ANN, letter.id)
    await log.line("event delivered")
    assert await broker.dead(ANN) == []
    assert len(subscriber.got) == 4
    with pytest.raises(NotFound):
        await broker.resend(ANN, letter.id)


async def test_no_answer_is_tried_again(brokers: Brokers, clock: Clock, log: Log) -> None:
    with listening() as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/"
    broker = await brokers.start(Subscriber().app, [trigger(subscriber=url, delivery=Delivery(retry=1))])
    await broker.send(event(), ANN)
    assert await clock.next_sleep() == 0.2
    clock.advance(0.2)
    await log.line("event undeliverable")
    (letter,) = await broker.dead(ANN)
    assert letter.status is None
    assert letter.reason.startswith("no answer: Cannot connect")
    await brokers.close()


async def test_an_answer_that_does_not_come_in_time_is_broken_off_and_tried_again(
    brokers: Brokers, clock: Clock
) -> None:
    left: asyncio.Queue[str] = asyncio.Queue()

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            left.put_nowait(scope["path"])

    broker = await brokers.start(silent, [trigger(delivery=Delivery(timeout_s=0.01))])
    await broker.send(event(), ANN)
    assert await left.get() == "/events/made"
    assert await clock.next_sleep() == 0.2


async def test_an_app_that_fails_is_tried_again(brokers: Brokers, clock: Clock) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("oh")

    broker = await brokers.start(broken, [trigger()])
    await broker.send(event(), ANN)
    assert await clock.next_sleep() == 0.2


async def test_an_answer_that_is_an_event_is_delivered_in_its_turn_in_the_same_name(
    brokers: Brokers, subscriber: Subscriber
) -> None:
    reply = event("reply-1", kind="com.example.answered", data={"ok": True}, color="red")
    subscriber.answers = [lambda _: reply_of(reply)]
    triggers = [trigger(), trigger("answered", kind="com.example.answered", subscriber="/events/answered")]
    broker = await brokers.start(subscriber.app, triggers)
    await broker.send(event("1"), ANN)
    _, got = await subscriber.next_ones(2)
    assert (got.path, got.principal, got.event) == ("/events/answered", "ann", reply)
    assert [kept.event.id async for kept in broker.events(ANN)] == ["1", "reply-1"]


@pytest.mark.parametrize(
    "answer",
    [
        Response("fine", media_type="text/plain"),
        Response(headers={"ce-specversion": "1.0", "ce-id": "1"}),
        Response(b"[]", media_type="application/cloudevents-batch+json"),
        Response(b"{", media_type="application/cloudevents+json"),
    ],
    ids=["text", "no source", "batch", "no JSON"],
)
async def test_an_answer_that_is_neither_an_event_nor_empty_counts_as_a_failure(
    brokers: Brokers, subscriber: Subscriber, clock: Clock, answer: Response
) -> None:
    subscriber.answers = [lambda _: answer]
    broker = await brokers.start(subscriber.app, [trigger()])
    await broker.send(event(), ANN)
    assert await clock.next_sleep() == 0.2
    clock.advance(0.2)
    await subscriber.next_ones(2)


async def test_two_triggers_that_answer_each_other_come_to_an_end(
    brokers: Brokers, subscriber: Subscriber, log: Log
) -> None:
    def other(delivered: Delivered) -> Response:
        kind = "com.example.pong" if delivered.event.type == MADE else MADE
        assert "knativebrokerttl" not in delivered.event.extensions
        return reply_of(event(str(int(delivered.event.id) + 1), kind=kind, knativebrokerttl="200"))

    subscriber.always = other
    broker = await brokers.start(subscriber.app, [trigger(), trigger("pong", kind="com.example.pong")])
    await broker.send(event("1"), ANN)
    await log.line("reply dropped")
    assert len(subscriber.got) == 255
    subscriber.got.clear()
    await broker.send(event("1000", knativebrokerttl="3"), ANN)
    await log.line("reply dropped")
    assert [one.event.id for one in subscriber.got] == ["1000", "1001"]
    for used_up in ("1", "0", "-4", "many"):
        with pytest.raises(InvalidRequest):
            await broker.send(event(knativebrokerttl=used_up), ANN)


async def test_a_slow_subscriber_holds_up_nobody_else(brokers: Brokers, subscriber: Subscriber) -> None:
    go_on = asyncio.Event()
    busy = 0
    full = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal busy
        if scope["path"] == "/events/slow":
            busy += 1
            if busy == 2:
                full.set()
            await go_on.wait()
        await subscriber.app(scope, receive, send)

    triggers = [trigger("slow", subscriber="/events/slow"), trigger("quick", subscriber="/events/quick")]
    broker = await brokers.start(app, triggers, max_deliveries=4)
    for number in range(20):
        await broker.send(event(str(number)), ANN)
    quick = await subscriber.next_ones(20)
    assert {one.path for one in quick} == {"/events/quick"}
    await full.wait()
    assert busy == 2
    assert broker.waiting >= 20
    go_on.set()
    slow = await subscriber.next_ones(20)
    assert {one.event.id for one in slow} == {str(number) for number in range(20)}


async def test_whoever_sends_much_does_not_hold_up_others(brokers: Brokers, subscriber: Subscriber) -> None:
    go_on = asyncio.Semaphore(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await subscriber.app(scope, receive, send)
        await go_on.acquire()

    broker = await brokers.start(app, [trigger()], max_deliveries=2)
    for number in range(20):
        await broker.send(event(str(number)), ANN)
    await subscriber.next()
    for number in range(3):
        await broker.send(event(str(number)), PrincipalId("bob"))
    assert (await subscriber.next()).principal == "bob"
    for _ in range(4):
        go_on.release()
    assert [one.principal for one in await subscriber.next_ones(4)].count("bob") == 2
    for _ in range(19):
        go_on.release()
    await subscriber.next_ones(17)


async def test_nobody_has_more_than_half_of_a_lane(brokers: Brokers, subscriber: Subscriber) -> None:
    never = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await subscriber.app(scope, receive, send)
        if scope["caesarion.principal"] == "ann":
            await never.wait()

    broker = await brokers.start(app, [trigger()], max_deliveries=4)
    for number in range(20):
        await broker.send(event(str(number)), ANN)
    await subscriber.next_ones(2)
    for number in range(20):
        await broker.send(event(str(number)), PrincipalId("bob"))
    assert {one.principal for one in await subscriber.next_ones(20)} == {"bob"}
    assert len(subscriber.got) == 22


async def test_a_thousand_events_reach_two_triggers_once_each(brokers: Brokers, subscriber: Subscriber) -> None:
    broker = await brokers.start(subscriber.app, [trigger("a", subscriber="/events/a"), trigger("b")])
    await asyncio.gather(*(broker.send(event(str(number)), ANN) for number in range(1000)))
    got = await subscriber.next_ones(2000)
    assert {(one.path, one.event.id) for one in got} == {
        (path, str(number)) for path in ("/events/a", "/events/made") for number in range(1000)
    }
    await brokers.close()
    assert len(subscriber.got) == 2000


async def test_more_than_may_wait_is_refused_until_there_is_room(
    brokers: Brokers, subscriber: Subscriber, log: Log
) -> None:
    broker = brokers.open([trigger()], Bounds(max_waiting_events=2))
    await broker.send(event("1"), ANN)
    await broker.send(event("2"), ANN)
    with pytest.raises(SandboxUnavailable) as refused:
        await broker.send(event("3"), ANN)
    assert (refused.value.code, refused.value.retry_after_s) == ("broker_full", 5)
    await broker.send(event("nobody takes it", kind="com.example.other"), ANN)
    await broker.start(subscriber.app)
    await log.line("event delivered", 2)
    await broker.send(event("3"), ANN)
    await subscriber.next_ones(3)


async def test_bytes_that_wait_are_bounded_too(brokers: Brokers) -> None:
    broker = brokers.open([trigger()], Bounds(max_waiting_bytes=2000), max_event_bytes=1500)
    await broker.send(event("1", data="x" * 1000), ANN)
    await broker.send(event("2", data="x" * 1000), ANN)
    with pytest.raises(SandboxUnavailable):
        await broker.send(event("3"), ANN)
    with pytest.raises(TooLarge):
        await broker.send(event("4", data="x" * 1600), ANN)


async def test_of_too_many_dead_letters_the_oldest_goes(brokers: Brokers, subscriber: Subscriber, log: Log) -> None:
    subscriber.always = lambda _: Response(status_code=400)
    broker = await brokers.start(subscriber.app, [trigger()], Bounds(max_dead_each=2, max_history_events_each=1))
    for number in range(4):
        await broker.send(event(str(number)), ANN)
        await log.line("event undeliverable")
    assert [letter.event.id for letter in await broker.dead(ANN)] == ["2", "3"]
    (newer,) = await broker.dead(ANN, after=(await broker.dead(ANN))[0].id)
    await broker.remove(ANN, newer.id)
    await broker.remove(ANN, newer.id)
    assert [letter.event.id for letter in await broker.dead(ANN)] == ["2"]


async def test_what_one_sends_or_fails_at_takes_no_room_of_others(
    brokers: Brokers, subscriber: Subscriber, log: Log
) -> None:
    bob = PrincipalId("bob")
    bounds = Bounds(max_waiting_events_each=2, max_dead_each=2, max_history_events_each=2)
    broker = brokers.open([trigger()], bounds)
    for principal in (ANN, bob):
        for number in (1, 2):
            await broker.send(event(f"{principal}-{number}"), principal)
        with pytest.raises(SandboxUnavailable):
            await broker.send(event("3"), principal)
    subscriber.always = lambda _: Response(status_code=400)
    await broker.start(subscriber.app)
    await log.line("event undeliverable", 4)
    for number in range(3, 7):
        await broker.send(event(f"bob-{number}"), bob)
        await log.line("event undeliverable")
    for _ in range(2):
        assert [letter.event.id for letter in await broker.dead(ANN)] == ["ann-1", "ann-2"]
        assert [letter.event.id for letter in await broker.dead(bob)] == ["bob-5", "bob-6"]
        assert [kept.event.id async for kept in broker.events(ANN)] == ["ann-1", "ann-2"]
        assert [kept.event.id async for kept in broker.events(bob)] == ["bob-5", "bob-6"]
        await brokers.close()
        broker = await brokers.start(subscriber.app, [trigger()], bounds)


async def test_an_answer_for_which_there_is_no_room_is_asked_for_again(
    brokers: Brokers, subscriber: Subscriber, clock: Clock, log: Log
) -> None:
    answered = "com.example.answered"

    def answer(delivered: Delivered) -> Response:
        if delivered.event.id == "blocks":
            return Response(status_code=UNAVAILABLE, headers={"Retry-After": "60"})
        return reply_of(event("reply", kind=answered)) if delivered.path == "/events/made" else Response()

    subscriber.always = answer
    triggers = [
        trigger(),
        trigger("other", kind="com.example.other", subscriber="/events/other"),
        trigger("answered", kind=answered, subscriber="/events/answered"),
    ]
    broker = brokers.open([*triggers, trigger("slow", subscriber="/events/slow")], Bounds(max_waiting_events=2))
    await broker.send(event("1"), ANN)
    await broker.send(event("blocks", kind="com.example.other"), ANN)
    slow = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/events/slow":
            await slow.wait()
        await subscriber.app(scope, receive, send)

    await broker.start(app)
    await log.line("delivery put off", 2)
    assert [kept.event.id async for kept in broker.events(ANN)] == ["1", "blocks"]
    slow.set()
    await log.line("event delivered")
    clock.advance(5)
    await log.line("event delivered", 2)
    assert [kept.event.id async for kept in broker.events(ANN)] == ["1", "blocks", "reply"]


@pytest.mark.parametrize("triggers", [1, 2, 3])
async def test_triggers_that_take_what_they_answer_come_to_an_end(
    brokers: Brokers, subscriber: Subscriber, log: Log, triggers: int
) -> None:
    subscriber.always = lambda delivered: reply_of(event(f"{delivered.event.id}.{delivered.path[-1]}"))
    loops = [trigger(f"loop-{number}", subscriber=f"/events/{number}") for number in range(triggers)]
    broker = await brokers.start(subscriber.app, loops)
    await broker.send(event("1"), ANN)
    dropped = await log.line("reply dropped")
    assert (dropped.levelname, dropped.__dict__["reply_type"]) == ("WARNING", MADE)
    while broker.waiting:
        await log.line("event delivered")
    events = [kept.event.id async for kept in broker.events(ANN)]
    assert 100 < len(events) <= 255
    assert len(subscriber.got) == triggers * len(events)


@pytest.mark.parametrize(
    ("body", "headers", "told"),
    [
        (rb'{"error":{"message":"\ud800 bad\u0000\n"}}', {}, "bad"),
        (b"", {"Retry-After": "Mon, 99999999999 Jan 2020 00:00:00 GMT"}, "Service Unavailable"),
        (b"", {"Retry-After": "Mon, 01 Jan 2020 00:00:00 +99999999999999999999"}, "Service Unavailable"),
    ],
    ids=["lone surrogate", "date out of range", "zone out of range"],
)
async def test_no_answer_keeps_a_delivery_for_ever(
    brokers: Brokers, subscriber: Subscriber, clock: Clock, log: Log, body: bytes, headers: dict[str, str], told: str
) -> None:
    subscriber.always = lambda _: Response(body, status_code=UNAVAILABLE, headers=headers)
    async with served(subscriber.app) as url:
        far = trigger(subscriber=f"{url}/events/far", delivery=Delivery(retry=1))
        broker = await brokers.start(subscriber.app, [far])
        await broker.send(event(), ANN)
        assert await clock.next_sleep() == 0.2
        clock.advance(0.2)
        await log.line("event undeliverable")
        (letter,) = await broker.dead(ANN)
        assert (letter.status, letter.reason, letter.attempts) == (UNAVAILABLE, told, 2)
        await brokers.close()


async def test_a_failure_nobody_thought_of_counts_as_an_attempt(
    brokers: Brokers, subscriber: Subscriber, log: Log
) -> None:
    no_pair: Any = (("color",),)
    answered = Match("exact", (("type", "com.example.answered"),))
    broken = Trigger("broken", (answered, Match("exact", no_pair)), "/events/broken")
    subscriber.always = lambda _: reply_of(event("2", kind="com.example.answered"))
    broker = await brokers.start(subscriber.app, [trigger(delivery=Delivery(retry=0)), broken])
    await broker.send(event(), ANN)
    await log.line("event undeliverable")
    (letter,) = await broker.dead(ANN)
    assert (letter.reason, letter.attempts) == ("it failed unexpectedly: ValueError", 1)


async def test_a_bad_call_spoils_no_other_that_is_committed_with_it(brokers: Brokers) -> None:
    broker = brokers.open([trigger()])
    good = [broker.send(event(str(number)), ANN) for number in range(5)]
    bad = broker.send(event("bad"), PrincipalId("\ud800"))
    results = await asyncio.gather(*good[:2], bad, *good[2:], return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] * 2 + [UnicodeEncodeError] + [type(None)] * 3
    assert [kept.event.id async for kept in broker.events(ANN)] == ["0", "1", "2", "3", "4"]
    assert broker.waiting == 5


async def test_attributes_that_no_header_can_carry_are_refused_or_stay_encoded(
    brokers: Brokers, subscriber: Subscriber, clock: Clock
) -> None:
    subscriber.answers = [
        lambda _: Response(
            b'{"specversion":"1.0","id":"1","source":"/s","type":"t","datacontenttype":"a/b; \\u20ac"}',
            media_type="application/cloudevents+json",
        )
    ]
    broker = await brokers.start(subscriber.app, [trigger()])
    with pytest.raises(InvalidRequest, match="datacontenttype"):
        await broker.send(replace(event(), datacontenttype="text/plain; x=€"), ANN)
    await broker.send(event(tracestate="a=€", color="€"), ANN)
    got = await subscriber.next()
    assert got.event.extensions == {"tracestate": "a=€", "color": "€"}
    assert "tracestate" not in got.headers
    assert await clock.next_sleep() == 0.2  # an answer that could not be sent on is none


async def test_a_large_answer_is_not_waited_for(brokers: Brokers, subscriber: Subscriber, log: Log) -> None:
    subscriber.always = lambda _: Response(b"x" * 5000, media_type="application/cloudevents+json")
    async with served(subscriber.app) as url:
        triggers = [trigger("in"), trigger("out", subscriber=f"{url}/events/out")]
        broker = await brokers.start(subscriber.app, triggers, max_event_bytes=1000)
        await broker.send(event(), ANN)
        await log.line("event undeliverable", 2)
        assert {letter.reason for letter in await broker.dead(ANN)} == {"the answer is larger than 2000 bytes"}
        await brokers.close()


async def test_what_came_can_be_followed_by_its_owner_only(brokers: Brokers) -> None:
    broker = brokers.open([])
    bob = PrincipalId("bob")
    await broker.send(event("1"), ANN)
    await broker.send(event("2"), bob)
    await broker.send(event("3"), ANN)
    following = broker.events(ANN, follow=True)
    assert [(await anext(following)).event.id for _ in range(2)] == ["1", "3"]
    coming = asyncio.ensure_future(anext(following))
    await broker.send(event("4"), bob)
    await broker.send(event("5"), ANN)
    assert (await coming).event.id == "5"
    await following.aclose()
    assert [kept.event.id async for kept in broker.events(ANN, newest=2)] == ["3", "5"]
    assert [kept.event.id async for kept in broker.events(ANN, newest=0)] == []
    assert [kept.event.id async for kept in broker.events(ANN, after=3)] == ["5"]


async def test_history_is_bounded_and_what_a_delivery_needs_is_kept(
    brokers: Brokers, subscriber: Subscriber, log: Log
) -> None:
    broker = brokers.open([trigger()], Bounds(max_history_events_each=3))
    for number in range(6):
        await broker.send(event(str(number)), ANN)
    assert [kept.event.id async for kept in broker.events(ANN)] == ["3", "4", "5"]
    await broker.start(subscriber.app)
    assert {one.event.id for one in await subscriber.next_ones(6)} == {"0", "1", "2", "3", "4", "5"}
    await log.line("event delivered", 6)
    await brokers.close()
    with contextlib.closing(sqlite3.connect(brokers.path)) as file:
        assert file.execute("SELECT count(*) FROM events").fetchone() == (3,)
        assert file.execute("SELECT count(*) FROM deliveries").fetchone() == (0,)
