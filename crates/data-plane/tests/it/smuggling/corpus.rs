//! Malformed requests, and what has to become of each.

/// What has to become of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing reaches the app.
    Refused,
    /// One request reaches the app, with this target and body.
    Passed(&'static str, &'static str),
}
use Fate::{Passed, Refused};

/// `HOST` and `AUTH` stand for the good fields, each with its line end.
pub(super) const HTTP1: &[(&str, &str, Fate)] = &[
    ("plain", "GET /a HTTP/1.1\r\nHOSTAUTH\r\n", Passed("/a", "")),
    ("length", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 3\r\n\r\nabc", Passed("/a", "abc")),
    (
        "chunks",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Passed("/a", "abc"),
    ),
    (
        "a GET with chunks",
        "GET /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        Passed("/a", "abc"),
    ),
    // RFC 9112, section 6.1: the chunks count, the length is dropped, and nothing more is read
    // from the connection.
    (
        "CL and TE",
        "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHOSTAUTH\r\n",
        Passed("/a", ""),
    ),
    (
        "TE and CL",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHOSTAUTH\r\n",
        Passed("/a", ""),
    ),
    (
        "TE not last chunked",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE below chunked",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE twice",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE twice in one",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE identity",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: identity\r\nContent-Length: 3\r\n\r\nabc",
        Refused,
    ),
    ("TE xchunked", "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", Refused),
    ("TE quoted", "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n", Refused),
    (
        "TE with a vertical tab",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "TE with a space before the colon",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("TE of HTTP/1.0", "POST /a HTTP/1.0\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Refused),
    (
        "TE in capitals",
        "POST /a HTTP/1.1\r\nHOSTAUTHTRANSFER-ENCODING: CHUNKED\r\n\r\n1\r\na\r\n0\r\n\r\n",
        Passed("/a", "a"),
    ),
    (
        "two lengths",
        "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        Refused,
    ),
    (
        "the same length twice",
        "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        Passed("/a", "abc"),
    ),
    ("a list of lengths", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 3, 3\r\n\r\nabc", Refused),
    ("a signed length", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: +3\r\n\r\nabc", Refused),
    ("a negative length", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: -1\r\n\r\n", Refused),
    ("a length in hex", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 0x3\r\n\r\nabc", Refused),
    ("an empty length", "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length:\r\n\r\n", Refused),
    (
        "a length beyond 64 bits",
        "POST /a HTTP/1.1\r\nHOSTAUTHContent-Length: 18446744073709551617\r\n\r\na",
        Refused,
    ),
    ("obs-fold", "GET /a HTTP/1.1\r\nHOSTAUTHX-Long: a\r\n b\r\n\r\n", Refused),
    (
        "obs-fold of TE",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    ("space before the first field", "GET /a HTTP/1.1\r\n HOSTAUTH\r\n", Refused),
    ("bare CR in a value", "GET /a HTTP/1.1\r\nHOSTAUTHX-A: a\rX-B: b\r\n\r\n", Refused),
    ("bare CR as line end", "GET /a HTTP/1.1\rHOSTAUTH\r\n", Refused),
    // RFC 9112, section 2.2 allows it; the app gets CR and LF.
    ("bare LF as line end", "GET /a HTTP/1.1\nHOSTAUTHX-A: a\nX-B: b\r\n\r\n", Passed("/a", "")),
    ("NUL in a value", "GET /a HTTP/1.1\r\nHOSTAUTHX-A: a\0b\r\n\r\n", Refused),
    ("NUL in a name", "GET /a HTTP/1.1\r\nHOSTAUTHX\0A: b\r\n\r\n", Refused),
    ("NUL in the target", "GET /a\0b HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("a field without a name", "GET /a HTTP/1.1\r\nHOSTAUTH: x\r\n\r\n", Refused),
    ("a field without a colon", "GET /a HTTP/1.1\r\nHOSTAUTHX-A\r\n\r\n", Refused),
    ("a space in a name", "GET /a HTTP/1.1\r\nHOSTAUTHX A: b\r\n\r\n", Refused),
    ("three words in the request line", "GET /a /b HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("a tab in the request line", "GET\t/a\tHTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("no version", "GET /a\r\nHOSTAUTH\r\n", Refused),
    ("another version", "GET /a HTTP/1.2\r\nHOSTAUTH\r\n", Refused),
    ("HTTP/2 in text", "GET /a HTTP/2.0\r\nHOSTAUTH\r\n", Refused),
    ("no slash", "GET a HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("an asterisk", "GET * HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("absolute form of another host", "GET https://elsewhere/a HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("absolute form with a user", "GET https://u@SELF/a HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("absolute form", "GET https://SELF/a?b HTTP/1.1\r\nHOSTAUTH\r\n", Passed("/a?b", "")),
    ("absolute form without a path", "GET https://SELF?b HTTP/1.1\r\nHOSTAUTH\r\n", Passed("/?b", "")),
    ("no host", "GET /a HTTP/1.1\r\nAUTH\r\n", Refused),
    ("two hosts", "GET /a HTTP/1.1\r\nHOSTHOSTAUTH\r\n", Refused),
    ("a host in one field and another", "GET /a HTTP/1.1\r\nHOSTHost: elsewhere\r\nAUTH\r\n", Refused),
    (
        "Connection names the framing",
        "POST /a HTTP/1.1\r\nHOSTAUTHConnection: content-length\r\nContent-Length: 3\r\n\r\nabc",
        Passed("/a", "abc"),
    ),
    ("Connection names Host", "GET /a HTTP/1.1\r\nHOSTAUTHConnection: host\r\n\r\n", Passed("/a", "")),
    (
        "Connection names the request id",
        "GET /a HTTP/1.1\r\nHOSTAUTHConnection: x-amzn-requestid\r\n\r\n",
        Passed("/a", ""),
    ),
    (
        "a chunk size that is none",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk size with a sign",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk size with 0x",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk size beyond 64 bits",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk longer than its size",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk line that ends in LF",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk extension with LF",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk that ends in LF",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\r\nabc\n0\r\n\r\n",
        Refused,
    ),
    (
        "a chunk extension",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\n\r\n",
        Passed("/a", "abc"),
    ),
    (
        "trailers",
        "POST /a HTTP/1.1\r\nHOSTAUTHTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nContent-Length: 9\r\nHost: x\r\n\r\n",
        Passed("/a", "abc"),
    ),
    (
        "an upgrade that nobody asked for",
        "GET /a HTTP/1.1\r\nHOSTAUTHUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n\r\n",
        Passed("/a", ""),
    ),
    ("bytes before the request", "\0\0GET /a HTTP/1.1\r\nHOSTAUTH\r\n", Refused),
    ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Refused),
];

/// The fields of a request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fields {
    /// Those of a good GET, and these.
    With(&'static [(&'static str, &'static str)]),
    /// Those of a good POST, and these.
    Post(&'static [(&'static str, &'static str)]),
    /// These.
    Only(&'static [(&'static str, &'static str)]),
}
use Fields::{Only, Post, With};

impl Fields {
    /// All of them, in their order.
    pub(super) fn all(self) -> Vec<(&'static str, &'static str)> {
        let good =
            |method| vec![(":method", method), (":scheme", "https"), (":authority", "SELF"), (":path", "/a")];
        let (mut all, more) = match self {
            With(more) => (good("GET"), more),
            Post(more) => (good("POST"), more),
            Only(more) => (vec![], more),
        };
        all.extend_from_slice(more);
        all
    }
}

/// `SELF` stands for the endpoint's name. The body is `abc` if a length is given.
pub(super) const HTTP2: &[(&str, Fields, Fate)] = &[
    ("plain", With(&[]), Passed("/a", "")),
    (
        "host only",
        Only(&[(":method", "GET"), (":scheme", "https"), (":path", "/a"), ("host", "SELF")]),
        Passed("/a", ""),
    ),
    ("a right length", Post(&[("content-length", "3")]), Passed("/a", "abc")),
    ("a short length", Post(&[("content-length", "2")]), Refused),
    ("a long length", Post(&[("content-length", "4")]), Refused),
    ("two lengths", Post(&[("content-length", "3"), ("content-length", "4")]), Refused),
    ("connection", With(&[("connection", "close")]), Refused),
    ("transfer-encoding", Post(&[("transfer-encoding", "chunked")]), Refused),
    ("upgrade", With(&[("upgrade", "websocket")]), Refused),
    ("te: gzip", With(&[("te", "gzip")]), Refused),
    ("capitals", With(&[("X-A", "b")]), Refused),
    ("CR LF in a value", With(&[("x-a", "b\r\nx-c: d")]), Refused),
    ("NUL in a value", With(&[("x-a", "b\0")]), Refused),
    ("CR LF in a name", With(&[("x-a\r\nx", "b")]), Refused),
    ("a colon in a name", With(&[("x:a", "b")]), Refused),
    (
        "CR LF in the path",
        Only(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a HTTP/1.1\r\nx: y"),
        ]),
        Refused,
    ),
    (
        "a space in the path",
        Only(&[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "/a b")]),
        Refused,
    ),
    (
        "CR LF in the method",
        Only(&[
            (":method", "GET / HTTP/1.1\r\nx: y"),
            (":scheme", "https"),
            (":authority", "SELF"),
            (":path", "/a"),
        ]),
        Refused,
    ),
    (
        "CR LF in the authority",
        Only(&[(":method", "GET"), (":scheme", "https"), (":authority", "SELF\r\nx: y"), (":path", "/a")]),
        Refused,
    ),
    ("no method", Only(&[(":scheme", "https"), (":authority", "SELF"), (":path", "/a")]), Refused),
    ("no path", Only(&[(":method", "GET"), (":scheme", "https"), (":authority", "SELF")]), Refused),
    (
        "an empty path",
        Only(&[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "")]),
        Refused,
    ),
    (
        "no slash",
        Only(&[(":method", "GET"), (":scheme", "https"), (":authority", "SELF"), (":path", "a")]),
        Refused,
    ),
    ("no scheme", Only(&[(":method", "GET"), (":authority", "SELF"), (":path", "/a")]), Refused),
    ("no authority", Only(&[(":method", "GET"), (":scheme", "https"), (":path", "/a")]), Refused),
    ("two paths", With(&[(":path", "/b")]), Refused),
    (
        "a pseudo-header behind a field",
        Only(&[
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "SELF"),
            ("x-a", "b"),
            (":path", "/a"),
        ]),
        Refused,
    ),
    ("an unknown pseudo-header", With(&[(":x", "y")]), Refused),
    ("the status of an answer", With(&[(":status", "200")]), Refused),
    ("a protocol without CONNECT", With(&[(":protocol", "websocket")]), Refused),
    ("CONNECT", Only(&[(":method", "CONNECT"), (":authority", "SELF")]), Refused),
    ("another host", With(&[("host", "elsewhere")]), Refused),
    (
        "another authority",
        Only(&[(":method", "GET"), (":scheme", "https"), (":authority", "elsewhere"), (":path", "/a")]),
        Refused,
    ),
    (
        "a user",
        Only(&[(":method", "GET"), (":scheme", "https"), (":authority", "u@SELF"), (":path", "/a")]),
        Refused,
    ),
];
