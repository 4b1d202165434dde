//! What is read, what is not, and what comes back after a rewrite.

use super::*;

#[test]
fn unknown_fields_survive() {
    let text = br#"{"v":1,"title":"x","priority":5,"max_attempts":1,"later":{"a":[1]}}"#;
    let spec: Spec = parse(text).unwrap();
    let again: Spec = parse(&to_bytes(&spec)).unwrap();
    assert_eq!(spec, again);
    assert_eq!(again.more["later"]["a"][0], 1);
}

#[test]
fn any_bytes_are_read() {
    for bytes in [&b""[..], b"\0\0", b"[]", b"{}", b"{\"v\":", b"\xff\xfe", b"null", b"7"] {
        let _spec: Result<Spec, _> = parse(bytes);
        let _card: Result<Card, _> = parse(bytes);
        let _end: Result<End, _> = parse(bytes);
        assert!(parse::<Card>(bytes).is_err());
        assert!(parse::<End>(bytes).is_err());
    }
}

#[test]
fn what_is_too_long_with_a_line_for_each_element_is_on_one_line() {
    let value: Value = vec![1; 131_000].into();
    let text = serde_json::to_string(&value).unwrap();
    assert!(text.len() < 256 << 10, "as long as result.json may be");
    let mut end = End::new(Verdict::Done, false);
    end.result.value = value;
    assert_eq!(parse(&to_bytes(&end)), Ok(end.clone()));
    assert_eq!(end.clone().fitting(), end);
    end.result.value = vec![1; 600_000].into();
    assert!(parse::<End>(&to_bytes(&end)).is_err());
    let end = end.fitting();
    assert_eq!((end.verdict, parse(&to_bytes(&end))), (Verdict::Done, Ok(end)));
}

#[test]
fn only_an_object_is_a_record() {
    for bytes in [&b"[]"[..], b"[1,\"w1\",\"\",\"\"]", b" [1]"] {
        assert!(parse::<Note>(bytes).is_err(), "{bytes:?}");
    }
    assert!(parse::<Note>(b" \n{}").is_ok());
    assert!(parse::<Note>(b"{\"unknown\":\"\xff\"}").is_err(), "JSON is UTF-8");
}

#[test]
fn numbers_are_written_as_they_were_read() {
    // Neighbours of it are a hair away; without `float_roundtrip` reading takes one of them.
    let spec: Spec = parse(br#"{"lease_s":122.416294033786585}"#).unwrap();
    assert_eq!(spec.lease_s, Some(122.416_294_033_786_58));
    assert_eq!(parse::<Spec>(&to_bytes(&spec)), Ok(spec));
}

#[test]
fn times_are_bounded() {
    assert_eq!(duration(Some(0.25)), Some(Duration::from_millis(250)));
    for none in [None, Some(0.0), Some(-1.0), Some(f64::NAN), Some(f64::INFINITY)] {
        assert_eq!(duration(none), None);
    }
    assert_eq!(duration(Some(1e300)), Some(Duration::from_secs_f64(SECONDS_MAX)));
    assert_eq!(duration(Some(1e-300)), Some(Duration::from_millis(1)));
}

#[test]
fn meaning_ignores_the_sender() {
    let a = Spec { uid: "1".into(), by: "anna".into(), ..Spec::new("t") };
    let b = Spec { uid: "2".into(), by: "bob".into(), ..Spec::new("t") };
    assert!(a.same_meaning(&b));
    assert!(!a.same_meaning(&Spec { priority: 1, ..b }));
}
