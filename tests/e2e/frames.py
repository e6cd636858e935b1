"""What a WebSocket client may send, right and wrong, in the classes of the Autobahn test suite:
frames as bytes, and what an app that echoes messages does with them (RFC 6455)."""
import dataclasses
import itertools
import struct
import zlib

KIB, MIB = 1 << 10, 1 << 20
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
MASK = b"\x37\xfa\x21\x3d"


def frame(opcode: int, payload: bytes = b"", fin: bool = True, reserved: int = 0, mask: bytes = MASK) -> bytes:
    """A frame as clients send it, and with an empty mask as servers do."""
    length, flag = len(payload), 0x80 if mask else 0
    head = bytes([fin << 7 | reserved << 4 | opcode])
    if length < 126:
        head += bytes([flag | length])
    elif length < 65536:
        head += struct.pack("!BH", flag | 126, length)
    else:
        head += struct.pack("!BQ", flag | 127, length)
    if not mask:
        return head + payload
    repeated = (mask * (length // 4 + 1))[:length]
    masked = (int.from_bytes(payload) ^ int.from_bytes(repeated)).to_bytes(length)
    return head + mask + masked


def close(code: int | None = 1000, reason: bytes = b"") -> bytes:
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


@dataclasses.dataclass(frozen=True)
class Case:
    """What is sent, and the frames that come back: opcode and payload, of a close
    frame the code alone."""
    name: str
    sent: bytes
    expected: list[tuple[int, object]]
    # How many bytes are sent at a time; all at once without it.
    chop: int | None = None
    path: str = "/ws"
    headers: tuple[tuple[str, str], ...] = ()


def echoed(name: str, sent: bytes, *messages: tuple[int, bytes], **more) -> Case:
    """Messages come back, and then the client closes."""
    return Case(name, sent + close(), [*messages, (CLOSE, 1000)], **more)


def fails(name: str, sent: bytes, code: int, *before: tuple[int, bytes], **more) -> Case:
    """The app closes, with this code."""
    return Case(name, sent, [*before, (CLOSE, code)], **more)


def fragments(opcode: int, *payloads: bytes) -> bytes:
    last = len(payloads) - 1
    return b"".join(frame(CONTINUATION if number else opcode, payload, fin=number == last)
                    for number, payload in enumerate(payloads))


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start:start + size] for start in range(0, len(data), size)]


def framing():
    for size in (0, 125, 126, 127, 128, 65535, 65536):
        for opcode, byte in ((TEXT, b"*"), (BINARY, b"\xfe")):
            for chop in (None, 997):
                payload = byte * size
                yield echoed(f"{opcode}, {size} bytes", frame(opcode, payload), (opcode, payload), chop=chop)


def pings_and_pongs():
    for payload in (b"", b"Hello, world!", bytes([0, 255, 254, 253, 252, 251, 0, 255]), b"\xfe" * 125):
        for chop in (None, 1):
            yield echoed(f"ping of {len(payload)}", frame(PING, payload), (PONG, payload), chop=chop)
        yield echoed(f"pong of {len(payload)}", frame(PONG, payload))
        yield echoed("pong and ping", frame(PONG, payload) + frame(PING, b"ping"), (PONG, b"ping"))
    yield fails("ping of 126", frame(PING, b"\xfe" * 126), 1002)
    for chop in (None, 1):
        payloads = [b"payload-%d" % number for number in range(10)]
        yield echoed("ten pings", b"".join(frame(PING, payload) for payload in payloads),
                     *((PONG, payload) for payload in payloads), chop=chop)


def reserved_bits():
    for reserved in range(1, 8):
        text = frame(TEXT, b"small")
        yield fails(f"alone: {reserved}", frame(TEXT, b"small", reserved=reserved), 1002)
        for opcode in (TEXT, BINARY, PING, CLOSE):
            wrong = frame(opcode, b"" if opcode == CLOSE else b"wrong", reserved=reserved)
            for chop in (None, 1):
                yield fails(f"after a message: {opcode}, {reserved}", text + wrong, 1002, (TEXT, b"small"), chop=chop)


def opcodes():
    for opcode in (*range(3, 8), *range(11, 16)):
        for payload in (b"", b"some"):
            yield fails(f"alone: {opcode}", frame(opcode, payload), 1002)
            yield fails(f"after a message: {opcode}", frame(TEXT, b"small") + frame(opcode, payload), 1002,
                        (TEXT, b"small"))


def fragmentation():
    for opcode in (PING, PONG):
        yield fails(f"of {opcode}", fragments(opcode, b"frag", b"ment"), 1002)
    whole, two = (TEXT, b"fragment1fragment2"), fragments(TEXT, b"fragment1", b"fragment2")
    first, last = frame(TEXT, b"fragment1", fin=False), frame(CONTINUATION, b"fragment2")
    for chop in (None, 1):
        yield echoed("two", two, whole, chop=chop)
        yield echoed("a ping between", first + frame(PING, b"ping") + last, (PONG, b"ping"), whole, chop=chop)
        yield echoed("twice", two + two, whole, whole, chop=chop)
    yield echoed("empty ones", fragments(TEXT, b"", b"", b""), (TEXT, b""))
    yield echoed("one of several is not empty", fragments(BINARY, b"", b"middle", b""), (BINARY, b"middle"))
    for fin in (True, False):
        lone = frame(CONTINUATION, b"non-continuation", fin=fin)
        yield fails(f"no beginning, {fin}", lone, 1002)
        yield fails(f"no beginning after a message, {fin}", two + lone, 1002, whole)
    yield fails("a message within another", first + frame(TEXT, b"fragment2"), 1002)
    parts = [first, frame(CONTINUATION, b"fragment2", fin=False), frame(PING, b"ping 1"),
             frame(CONTINUATION, b"fragment3", fin=False), frame(PING, b"ping 2"), frame(CONTINUATION, b"fragment4")]
    yield echoed("pings among five", b"".join(parts), (PONG, b"ping 1"), (PONG, b"ping 2"),
                 (TEXT, b"fragment1fragment2fragment3fragment4"))


VALID = ["Hello-µ@ßöäüàá-UTF-8!!", "κόσμε", "\0", "\x7f", "\x80", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufdd0", "\ufffd",
         "\ufffe", "\uffff", "\U00010000", "\U0001fffe", "\U0010ffff", "ä€𝄞" * 50]
INVALID = [b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited", b"\x80", b"\xbf", b"\x80\xbf\x80", b"\xc0 \xc1 ",
           b"\xe0 \xe1 ", b"\xf0 \xf1 ", b"\xf8 ", b"\xfc ", b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xdf", b"\xef\xbf",
           b"\xf7\xbf\xbf", b"\xfe", b"\xff", b"\xfe\xfe\xff\xff", b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf",
           b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf",
           b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xed\xa0\x80", b"\xed\xbf\xbf", b"\xed\xa0\x80\xed\xb0\x80",
           b"\xf4\x90\x80\x80", b"\xf7\xbf\xbf\xbf", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"]


def utf_8():
    for text in VALID:
        data = text.encode()
        yield echoed(f"valid: {text[:20]!r}", frame(TEXT, data), (TEXT, data))
        yield echoed(f"valid, by byte: {text[:20]!r}", fragments(TEXT, *pieces(data, 1), b""), (TEXT, data))
    for data in INVALID:
        yield fails(f"invalid: {data!r}", frame(TEXT, data), 1007)
        yield fails(f"invalid, by byte: {data!r}", fragments(TEXT, *pieces(data, 1), b""), 1007)
        yield echoed(f"bytes: {data!r}", frame(BINARY, data), (BINARY, data))


def closes():
    text = frame(TEXT, b"hello")
    yield echoed("after a message", text, (TEXT, b"hello"))
    yield Case("no code", close(None), [(CLOSE, None)])
    for more in (close(), frame(PING, b"late"), text):
        yield Case("what comes after is not heard", close() + more, [(CLOSE, 1000)])
    yield Case("in the midst of a message", frame(TEXT, b"fragment1", fin=False) + close() + frame(CONTINUATION, b"2"),
               [(CLOSE, 1000)])
    yield fails("one byte", frame(CLOSE, b"\x03"), 1002)
    yield fails("126 bytes", close(1000, b"*" * 124), 1002)
    yield fails("a reason that is no UTF-8", close(1000, b"\xce\xba\xe1\xbd\xb9\xcf\xed\xa0\x80"), 1007)
    for reason in (b"Hello World!", b"*" * 123, "ä€𝄞".encode()):
        yield Case(f"a reason of {len(reason)}", close(1000, reason), [(CLOSE, 1000)])
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case(f"{code}", close(code, b"why"), [(CLOSE, code)])
    for code in (0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65535):
        yield fails(f"{code}", close(code, b"why"), 1002)


def limits():
    for size in (64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB):
        for opcode, byte in ((TEXT, b"*"), (BINARY, b"\xfe")):
            payload = byte * size
            yield echoed(f"{opcode}, {size} in one", frame(opcode, payload), (opcode, payload))
    payload = bytes(range(256)) * (4 * MIB // 256)
    for size in (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB):
        yield echoed(f"4 MiB in fragments of {size}", fragments(BINARY, *pieces(payload, size)), (BINARY, payload))
    large = payload * 4
    yield echoed("16 MiB in fragments of 1 MiB", fragments(BINARY, *pieces(large, MIB)), (BINARY, large))
    for chop in (64, 512, 2048):
        yield echoed(f"1 MiB, {chop} at a time", frame(BINARY, payload[:MIB]), (BINARY, payload[:MIB]), chop=chop)
    for size in (0, 16, 64, 256, KIB, 4 * KIB):
        messages = [(BINARY, bytes([number & 255]) * size) for number in range(1000)]
        yield echoed(f"1000 of {size}", b"".join(itertools.starmap(frame, messages)), *messages)
    yield fails("a frame of more than 16 MiB", frame(BINARY, bytes(16 * MIB + 1))[:14], 1009)


def deflated(payload: bytes) -> bytes:
    """A message as RFC 7692, section 7.2.1 says, with no context from the one before."""
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH)
    return data.removesuffix(b"\0\0\xff\xff")


def compression():
    """Messages that the app inflates and deflates itself: extensions are between client and app."""
    texts = [b"", b"a", b"Hello" * 10, "ä€𝄞".encode() * 1000, b"x" * MIB, bytes(range(128)) * 512]
    none = "; server_no_context_takeover; client_no_context_takeover"
    for offer in ("permessage-deflate", f"permessage-deflate{none}", "permessage-deflate; client_max_window_bits",
                  f"permessage-deflate{none}; server_max_window_bits=10"):
        for split in (None, 2):
            sent = b""
            for text in texts:
                first, *rest = pieces(deflated(text), 1000) if split else [deflated(text)]
                sent += frame(TEXT, first, fin=not rest, reserved=4)
                sent += b"".join(frame(CONTINUATION, piece, fin=number == len(rest) - 1) for number, piece in enumerate(rest))
            yield echoed(f"{offer}, {split}", sent, *((TEXT, text) for text in texts), path="/deflate",
                         headers=(("sec-websocket-extensions", offer),))
    plain = frame(TEXT, b"not compressed")
    yield echoed("none offered", plain, (TEXT, b"not compressed"), path="/deflate")
    yield echoed("offered and not used", plain, (TEXT, b"not compressed"), path="/deflate",
                 headers=(("sec-websocket-extensions", "permessage-deflate"),))
    yield echoed("an app that has none", plain, (TEXT, b"not compressed"),
                 headers=(("sec-websocket-extensions", "permessage-deflate, x-other; a=1"),))


CLASSES = [framing, pings_and_pongs, reserved_bits, opcodes, fragmentation, utf_8, closes, limits, compression]


def parse(data: bytes, deflate: bool) -> list[tuple[int, object]]:
    """The messages and control frames of a server, in the form of `Case.expected`. It must not
    mask, and with extensions that were not agreed upon it must not set a reserved bit."""
    found, message, offset = [], None, 0
    # One for all messages: those that need no context take no harm.
    inflater = zlib.decompressobj(wbits=-15)
    while offset < len(data):
        first, second = data[offset:offset + 2]
        length, offset = second & 127, offset + 2
        assert not second & 128, "a server does not mask"
        if length > 125:
            size = 2 if length == 126 else 8
            length, offset = int.from_bytes(data[offset:offset + size]), offset + size
        payload, offset = data[offset:offset + length], offset + length
        assert len(payload) == length, "the last frame is cut off"
        opcode, fin, compressed = first & 15, first >> 7, bool(first & 64)
        assert not first & 48 and (deflate or not compressed), f"reserved bits: {first:08b}"
        if opcode == CLOSE:
            found.append((CLOSE, struct.unpack("!H", payload[:2])[0] if payload else None))
        elif opcode in (PING, PONG):
            found.append((opcode, payload))
        else:
            message = (message[0], message[1], message[2] + payload) if opcode == CONTINUATION else (opcode, compressed, payload)
            if fin:
                kind, inflate, whole = message
                found.append((kind, inflater.decompress(whole + b"\0\0\xff\xff") if inflate else whole))
    return found
