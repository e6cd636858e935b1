//! A parser of what reached the app.

use crate::fake::{LABEL, host};

/// Reads requests as strictly as RFC 9112 is written; targets and bodies.
pub(super) fn parse_all(mut bytes: &[u8]) -> Result<Vec<(String, String)>, &'static str> {
    let mut requests = Vec::new();
    while !bytes.is_empty() {
        let end = find(bytes, b"\r\n\r\n").ok_or("head incomplete")?;
        let head = std::str::from_utf8(&bytes[..end]).map_err(|_| "head not ASCII")?;
        bytes = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let request_line = lines.next().ok_or("no request line")?;
        let [method, target, "HTTP/1.1"] = request_line.split(' ').collect::<Vec<_>>()[..] else {
            return Err("request line malformed");
        };
        if !method.bytes().all(is_token)
            || !target.starts_with('/')
            || !target.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err("method or target malformed");
        }
        let (mut length, mut chunked, mut hosts) = (None, false, 0);
        for line in lines {
            let (name, value) = line.split_once(':').ok_or("field without colon")?;
            if name.is_empty() || !name.bytes().all(is_token) {
                return Err("field name malformed");
            }
            let value = value.trim_matches([' ', '\t']);
            if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 0x7f) {
                return Err("field value malformed");
            }
            match &*name.to_ascii_lowercase() {
                "content-length" if length.is_some() => return Err("two lengths"),
                "content-length" => length = Some(value.parse::<usize>().map_err(|_| "length malformed")?),
                "transfer-encoding" if value == "chunked" && !chunked => chunked = true,
                "transfer-encoding" => return Err("transfer-encoding"),
                "host" if value == host(LABEL) => hosts += 1,
                "host" => return Err("another host"),
                "connection" | "keep-alive" | "proxy-connection" | "te" | "upgrade" => {
                    return Err("hop-by-hop field");
                }
                name if name.starts_with("x-aws-proxy-") => return Err("the endpoint's own field"),
                _ => {}
            }
        }
        if hosts != 1 || chunked && length.is_some() {
            return Err("no host, or framed twice");
        }
        let (body, rest) = if chunked { take_chunks(bytes)? } else { take(bytes, length.unwrap_or(0))? };
        requests.push((target.to_owned(), body));
        bytes = rest;
    }
    Ok(requests)
}

fn take(bytes: &[u8], length: usize) -> Result<(String, &[u8]), &'static str> {
    let (body, rest) = bytes.split_at_checked(length).ok_or("body incomplete")?;
    Ok((String::from_utf8_lossy(body).into_owned(), rest))
}

fn take_chunks(mut bytes: &[u8]) -> Result<(String, &[u8]), &'static str> {
    let mut body = String::new();
    loop {
        let end = find(bytes, b"\r\n").ok_or("chunk incomplete")?;
        let size =
            std::str::from_utf8(&bytes[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let (chunk, rest) = take(&bytes[end + 2..], size.ok_or("chunk size malformed")?)?;
        bytes = rest.strip_prefix(b"\r\n").ok_or("chunk without end")?;
        if chunk.is_empty() {
            return Ok((body, bytes));
        }
        body += &chunk;
    }
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

pub(super) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[test]
fn the_corpus_parser_is_strict() {
    let good = format!("GET /a HTTP/1.1\r\nHost: {}\r\n", host(LABEL));
    assert_eq!(parse_all(format!("{good}\r\n").as_bytes()).unwrap().len(), 1);
    for bad in
        ["X:y\nz:\r\n", "Content-Length: 1\r\nContent-Length: 1\r\n", "Connection: close\r\n", "X y: z\r\n"]
    {
        assert!(parse_all(format!("{good}{bad}\r\n").as_bytes()).is_err(), "{bad:?}");
    }
    let both = format!("{good}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert!(parse_all(both.as_bytes()).is_err());
    assert!(parse_all(&[good.as_bytes(), b"\0"].concat()).is_err());
}
