"""Messages that survive their connection: numbered, kept until the other end has them, sent again on the next one.

Each end of the line between driver and agent has a mailbox. A frame is ``<number> <acknowledged>``, a line's end, and
the message; number 0 is a frame without a message, which only acknowledges, keeps alive, or says goodbye.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable

from distributed_cls.barrier.channel import MAX_BODY_BYTES, Channel, ChannelError

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 2.0
SILENCE_SECONDS = 5 * KEEP_ALIVE_SECONDS  # after which a connection counts as broken
_GOODBYE = b"goodbye"
_ACKNOWLEDGE_AFTER = 256  # messages; the keep-alive acknowledges fewer


class Mailbox:
    """One end. ``deliver`` is given every message of the other end, once and in order; it must not wait."""

    def __init__(self, deliver: Callable[[str], None], max_bytes: int = MAX_BODY_BYTES) -> None:
        self._deliver, self._max_bytes = deliver, max_bytes
        self._lock = threading.Condition()
        self._kept: deque[tuple[int, bytes]] = deque()  # what the other end has not acknowledged
        self._kept_bytes = 0
        self._posted = 0  # the number of the latest message
        self._channel: Channel | None = None
        self._closed = False
        self.received = 0  # the number of the latest message of the other end
        self._acknowledged = 0  # of these, what the other end knows of
        self.goodbye = False  # the other end will not come back

    def post(self, message: str) -> None:
        """Send ``message``, now or on the next connection. Waits while too much is kept; does nothing once closed."""
        body = message.encode()
        with self._lock:
            self._lock.wait_for(lambda: self._closed or not self._kept or self._kept_bytes < self._max_bytes)
            if self._closed:
                return
            self._posted += 1
            self._kept.append((self._posted, body))
            self._kept_bytes += len(body)
            # Within the lock: messages leave in the order of their numbers.
            self._send(self._channel, self._posted, body)

    def keep_alive(self) -> None:
        """Show that this end is there, and what it has received."""
        with self._lock:
            self._send(self._channel, 0, b"")

    def say_goodbye(self) -> None:
        """Tell the other end that nothing will follow."""
        with self._lock:
            self._send(self._channel, 0, _GOODBYE)

    def attach(self, channel: Channel, peer_received: int) -> None:
        """Go on over ``channel``: first what the other end does not have (messages after ``peer_received``)."""
        with self._lock:
            self._acknowledge(peer_received)
            before, self._channel = self._channel, channel
            for number, body in self._kept:
                self._send(channel, number, body)
        if before is not None:
            before.close()

    def read(self, channel: Channel) -> None:
        """Take in what comes on ``channel`` until it ends, or another is attached. Raises OSError when it breaks."""
        while (frame := channel.receive()) is not None:
            head, _, body = frame.partition(b"\n")
            try:
                number, acknowledged = map(int, head.split())
            except ValueError as error:
                raise ChannelError(f"a frame that begins with {head[:40]!r}") from error
            with self._lock:
                if channel is not self._channel:
                    return
                self._acknowledge(acknowledged)
                self._take(number, body)

    def _take(self, number: int, body: bytes) -> None:
        if number == 0:
            self.goodbye = self.goodbye or body == _GOODBYE
        elif number == self.received + 1:
            self.received = number
            self._deliver(body.decode())
            if self.received - self._acknowledged >= _ACKNOWLEDGE_AFTER:
                self._send(self._channel, 0, b"")
        elif number > self.received:
            raise ChannelError(f"message {number} after message {self.received}")
        # Any other came on an earlier connection already, and its acknowledgement was lost.

    def close(self) -> None:
        """Keep and send nothing any more, and end the connection."""
        with self._lock:
            self._closed = True
            channel, self._channel = self._channel, None
            self._lock.notify_all()
        if channel is not None:
            channel.close()

    def unacknowledged(self) -> int:
        """How many messages the other end may not have."""
        return len(self._kept)

    def _acknowledge(self, number: int) -> None:
        while self._kept and self._kept[0][0] <= number:
            self._kept_bytes -= len(self._kept.popleft()[1])
        self._lock.notify_all()

    def _send(self, channel: Channel | None, number: int, body: bytes) -> None:
        if channel is None:
            return
        self._acknowledged = self.received
        try:
            channel.send(b"%d %d\n" % (number, self.received) + body)
        except OSError as error:  # its reader sees the same, and the next connection brings the message again
            log.debug("A message waits for the next connection: %s", error)
            self._channel = None
            channel.close()
