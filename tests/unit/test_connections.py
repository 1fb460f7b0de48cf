"""Who is let in, who goes first and who is too slow, without any socket."""

import pytest

from vmledger.connections import (
    LINGER_S,
    UNREAD_ANSWER_S,
    Doorkeeper,
    DoorLimits,
    Guest,
    Reading,
    Shed,
)

LIMITS = DoorLimits(most=3, head_timeout_s=10, body_timeout_s=30)


class Street:
    """Guests of one door, and how each of them was ended."""

    def __init__(self):
        self.ended = []
        self.shed = []
        self.door = Doorkeeper(LIMITS, self.shed.append)

    def come(self, address="10.0.0.1", at_s=0.0, **facts):
        guest = Guest(address, lambda why: self.ended.append((guest, why)), at_s, at_s)
        for name, value in facts.items():
            setattr(guest, name, value)
        self.door.admit(guest)
        return guest

    def sweep_until(self, now_s, from_s=0.0):
        for second in range(int(from_s), int(now_s) + 1):
            self.door.sweep(float(second))


@pytest.fixture
def street():
    return Street()


def test_the_most_silent_of_the_address_with_most_connections_makes_room(street):
    street.come("10.0.0.9", 0)
    crowd = [street.come("10.0.0.1", at_s) for at_s in (2, 1)]
    newcomer = street.come("10.0.0.2", 3)
    assert street.ended == [(crowd[1], Shed.DISPLACED)]
    assert newcomer in street.door.guests


def test_nobody_in_the_middle_of_a_request_makes_room(street):
    for _ in range(3):
        street.come(is_answering=True)
    newcomer = street.come("10.0.0.2")
    assert street.ended == [(newcomer, Shed.NO_PLACE)]
    assert newcomer not in street.door.guests


def test_every_client_that_goes_is_counted_by_reason(street):
    for _ in range(5):
        street.come()
    assert street.shed == [Shed.DISPLACED] * 2


def test_a_head_has_a_deadline(street):
    guest = street.come()
    street.sweep_until(10)
    assert street.ended == []
    street.sweep_until(11, 11)
    assert street.ended == [(guest, Shed.SLOW_HEAD)]


def test_an_idle_connection_between_requests_is_left_alone(street):
    street.come(reading=Reading.NOTHING)
    street.sweep_until(1000)
    assert street.ended == []


def body(street, **facts):
    return street.come(reading=Reading.BODY, is_answering=True, **facts)


def test_a_body_that_stands_still_is_ended(street):
    guest = body(street, body_bytes=1_000_000)
    street.sweep_until(31)
    assert street.ended == [(guest, Shed.SLOW_BODY)]


def test_a_body_below_the_pace_is_ended_however_steadily_it_comes(street):
    guest = body(street)
    for second in range(1, 40):
        guest.heard_s, guest.body_bytes = second, second * 200
        street.door.sweep(second)
    assert street.ended == [(guest, Shed.SLOW_BODY)]


def test_a_body_at_the_pace_may_last_for_hours(street):
    guest = body(street)
    for second in range(1, 7200):
        guest.heard_s, guest.body_bytes = second, second * 260
        street.door.sweep(second)
    assert street.ended == []


def test_time_that_the_server_takes_is_not_held_against_the_client(street):
    guest = body(street, is_held_back=lambda: True)
    street.sweep_until(200)
    assert street.ended == []
    guest.is_held_back = bool
    street.sweep_until(229, 201)
    assert street.ended == []
    street.sweep_until(231, 230)
    assert street.ended == [(guest, Shed.SLOW_BODY)]


def test_a_stall_of_the_whole_process_ends_nobody_before_what_arrived_is_read(street):
    guest = street.come()
    street.door.sweep(0)
    street.door.sweep(60)
    assert street.ended == []
    guest.reading = Reading.NOTHING
    street.door.sweep(61)
    assert street.ended == []


def test_the_rest_of_an_answered_request_is_listened_to_for_seconds_only(street):
    guest = street.come(reading=Reading.BODY, answered_s=0.0)
    street.sweep_until(LINGER_S + 1)
    assert street.ended == [(guest, Shed.UNREAD_BODY)]


def test_a_client_that_does_not_read_its_answer_is_ended(street):
    guest = street.come(reading=Reading.NOTHING, is_answering=True, stuck_since_s=0.0)
    street.sweep_until(UNREAD_ANSWER_S)
    assert street.ended == []
    street.sweep_until(UNREAD_ANSWER_S + 1, UNREAD_ANSWER_S + 1)
    assert street.ended == [(guest, Shed.UNREAD_ANSWER)]
