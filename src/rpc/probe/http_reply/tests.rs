use proptest::prelude::*;

use super::*;

/// The judgement of a reply that arrives in pieces of this size, with the end of the connection if it
/// is still open after them.
fn judge(reply: &[u8], body: Option<&str>, pieces: usize) -> Result<(), String> {
    let expected = HttpExpectation {
        status: 200..=299,
        body: body.map(str::to_owned),
    };
    let mut reader = HttpReply::new(&expected);
    for piece in reply.chunks(pieces) {
        match reader.push(piece) {
            Judgement::Open => {}
            Judgement::Passed => return Ok(()),
            Judgement::Failed(why) => return Err(why),
        }
    }
    match reader.end() {
        Judgement::Passed => Ok(()),
        Judgement::Failed(why) => Err(why),
        Judgement::Open => panic!("open after the end"),
    }
}

/// The judgement is the same for any size of pieces.
#[track_caller]
fn judged(reply: &str, body: Option<&str>) -> Result<(), String> {
    let whole = judge(reply.as_bytes(), body, reply.len().max(1));
    for pieces in 1..reply.len() {
        assert_eq!(judge(reply.as_bytes(), body, pieces), whole, "{pieces}");
    }
    whole
}

#[test]
fn the_status_decides_when_nothing_is_expected_of_the_body() {
    assert_eq!(judged("HTTP/1.1 200 OK\r\n\r\n", None), Ok(()));
    assert_eq!(
        judged("HTTP/1.0 204 No Content\r\nA: b\r\n\r\n", None),
        Ok(())
    );
    assert_eq!(judged("HTTP/1.1 299\r\n\r\n", None), Ok(()));
    // Some servers end a line with "\n" alone.
    assert_eq!(judged("HTTP/1.1 200 OK\n\r\n", None), Ok(()));
    assert_eq!(judged("HTTP/1.1 200 OK\r\nA: b\n\n", None), Ok(()));
    let nonsense = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno chunk";
    assert_eq!(judged(nonsense, None), Ok(()));
    let failed = |reply| judged(reply, None).unwrap_err();
    assert_eq!(
        failed("HTTP/1.1 500 Oops\r\nContent-Length: 1\r\n\r\nx"),
        "status 500"
    );
    assert_eq!(
        failed("HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n"),
        "status 302"
    );
    assert_eq!(failed("HTTP/1.1 101 Switching\r\n\r\n"), "status 101");
}

#[test]
fn interim_replies_are_skipped() {
    let reply =
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(judged(reply, None), Ok(()));
}

#[test]
fn the_body_must_contain_the_expected_text_however_it_is_framed() {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nall ok";
    let close = "HTTP/1.1 200 OK\r\n\r\nall ok";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nall\r\n3;x=y\r\n ok\r\n0\r\n\r\n";
    for reply in [length, close, chunked] {
        assert_eq!(judged(reply, Some("all ok")), Ok(()));
        assert_eq!(judged(reply, Some("l o")), Ok(()));
        let why = judged(reply, Some("all ok!")).unwrap_err();
        assert_eq!(why, "the body does not contain \"all ok!\"");
    }
    // Bytes after the body are not part of it, and neither are the headers.
    assert!(
        judged(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nnook",
            Some("ok")
        )
        .is_err()
    );
    assert!(judged("HTTP/1.1 204 OK\r\nA: ok\r\n\r\nok", Some("ok")).is_err());
}

#[test]
fn a_text_at_the_limit_of_the_searched_body_is_found_and_a_later_one_is_not() {
    let reply = |before: usize| {
        let body = "x".repeat(before) + "ok" + &"x".repeat(100);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let at_the_limit = reply(SEARCHED - 2);
    assert_eq!(judge(at_the_limit.as_bytes(), Some("ok"), 4096), Ok(()));
    let beyond = judge(reply(SEARCHED - 1).as_bytes(), Some("ok"), 4096);
    assert!(beyond.unwrap_err().contains("first 64 KiB"));
}

#[test]
fn a_reply_that_is_not_http_or_is_cut_fails_with_a_reason() {
    let failed = |reply: &str, body| judged(reply, body).unwrap_err();
    assert!(failed("", None).contains("ended before a reply"));
    assert!(failed("HTTP/1.1 200 OK\r\nA: b", None).contains("ended before a reply"));
    assert!(failed("SSH-2.0-OpenSSH\r\n\r\n", None).contains("not HTTP/1.1"));
    let ok = Some("ok");
    let cut = failed("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nall", ok);
    assert!(cut.contains("ended within the reply"), "{cut}");
    let chunked = |rest: &str| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        failed(&format!("{head}{rest}"), ok)
    };
    assert!(chunked("zz\r\n").contains("size of a chunk"));
    assert!(chunked("3\r\nabcdef\r\n").contains("a chunk is too long"));
    assert!(chunked("3\r\nab").contains("ended within the reply"));
    assert!(failed("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", ok).contains("not a number"));
}

#[test]
fn a_head_may_have_16_kib_before_its_end() {
    let begin = "HTTP/1.1 200 OK\r\nA: ";
    for (more, passes) in [(0, true), (1, false)] {
        let fill = LARGEST_HEAD - begin.len() + more;
        let head = format!("{begin}{}", "x".repeat(fill));
        // It arrives with the whole interim reply before it, and without its end.
        let pieces = [&format!("HTTP/1.1 100 Continue\r\n\r\n{head}"), "\r\n\r\n"];
        let expected = HttpExpectation {
            status: 200..=299,
            body: None,
        };
        let mut reader = HttpReply::new(&expected);
        let first = reader.push(pieces[0].as_bytes());
        assert_eq!(matches!(first, Judgement::Open), passes);
        if passes {
            let last = reader.push(pieces[1].as_bytes());
            assert!(matches!(last, Judgement::Passed));
        }
    }
}

#[test]
fn an_endless_head_and_an_endless_chunk_line_are_refused() {
    let head =
        "HTTP/1.1 200 OK\r\n".to_owned() + &"A: b\r\n".repeat(50) + &"x".repeat(LARGEST_HEAD);
    let why = judge(head.as_bytes(), None, 100).unwrap_err();
    assert!(why.contains("more than 16 KiB"), "{why}");
    let many = "HTTP/1.1 200 OK\r\n".to_owned() + &"A: b\r\n".repeat(MOST_FIELDS + 1) + "\r\n";
    assert!(judge(many.as_bytes(), None, 100).is_err());
    let line =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;".to_owned() + &"x".repeat(5000);
    let why = judge(line.as_bytes(), Some("ok"), 100).unwrap_err();
    assert!(why.contains("size of a chunk"), "{why}");
}

proptest! {
    /// Whatever a server sends, the judgement does not depend on how it arrives in pieces.
    #[test]
    fn any_reply_has_the_same_judgement_in_pieces_of_any_size(
        head in prop::sample::select(vec![
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 503 X\r\n\r\n",
            "HTTP/1.1 200 OK\n\n",
            "HTP",
        ]),
        parts in prop::collection::vec(
            prop::sample::select(vec!["ok", "o", "k", "2\r\n", "1\r\n", "\r\n", "0\r\n\r\n", "zz", "\0", "\n"]),
            0..12,
        ),
        changed in prop::option::of((0_usize..40, any::<u8>())),
        body in prop::option::of(Just("ok")),
        pieces in 1_usize..20,
    ) {
        let mut reply = format!("{head}{}", parts.concat()).into_bytes();
        if let Some((at, byte)) = changed
            && let Some(old) = reply.get_mut(at)
        {
            *old = byte;
        }
        let whole = judge(&reply, body, reply.len());
        prop_assert_eq!(judge(&reply, body, pieces), whole);
    }
}
