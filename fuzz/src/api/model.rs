//! What a model's service sends: any bytes, read as the stream of an answer of whichever provider.
//!
//! The first byte says whose, the second in what pieces the bytes come. Answers are divided by zero bytes; what one of them
//! calls is answered before the next. However the bytes come, the same is heard; counts are never below zero; what is heard,
//! and what goes back with the next request, is no more than a few times what was read; an answer that is not whole is
//! forgotten.

use super::sse::Events;
use super::talk::{self, Answered, Heard, Opening, Stop, Talk};
use quorate_model::config::Provider;

const PROVIDERS: [Provider; 4] =
    [Provider::Anthropic, Provider::Openai, Provider::OpenaiChat, Provider::Gemini];
/// What may be heard or sent beside what was read, in bytes: words of our own, once and for each call and answer.
const OWN_WORDS: usize = 1_000;
/// What comes of a byte, in bytes: replaced characters grow, and so do numbers and escapes.
const TIMES: usize = 8;

/// Hears the answers, and looks at all that comes of them.
pub fn check(bytes: &[u8]) {
    let [first, second, rest @ ..] = bytes else { return };
    let provider = PROVIDERS[usize::from(first % 4)];
    let size = usize::from(*second).max(1);
    let (mut whole, mut cut) = (begin(provider), begin(provider));
    let mut own = OWN_WORDS;
    for stream in rest.split(|byte| *byte == 0) {
        let before = whole.request(None);
        let heard = hear(&mut *whole, [stream]);
        assert_eq!(hear(&mut *cut, stream.chunks(size)), heard, "in pieces of {size}");
        own += OWN_WORDS * (1 + heard.calls.len());
        check_heard(&heard, TIMES * stream.len() + own);
        if heard.stop == Stop::Whole {
            answer(&mut *whole, &heard);
            answer(&mut *cut, &heard);
        } else {
            assert_eq!(whole.request(None), before, "what broke off is forgotten");
        }
        let next = whole.request(None);
        assert_eq!(cut.request(None), next);
        let size = next.body.to_string().len();
        assert!(size <= TIMES * bytes.len() + own, "{size} bytes are sent of {}", bytes.len());
    }
}

fn begin(provider: Provider) -> Box<dyn Talk> {
    let word = |text: &str| text.to_owned();
    talk::begin(provider, Opening { model: word("m"), system: word("s"), user: word("u"), tools: Vec::new() })
}

fn hear<'a>(talk: &mut dyn Talk, pieces: impl IntoIterator<Item = &'a [u8]>) -> Heard {
    let mut events = Events::default();
    for piece in pieces {
        // No input is as large as what is refused.
        for event in events.feed(piece).expect("it is small") {
            talk.on_event(&event);
        }
    }
    talk.end()
}

fn answer(talk: &mut dyn Talk, heard: &Heard) {
    let answered =
        |call: &talk::Call| Answered { call: call.clone(), text: "ok".to_owned(), is_error: false };
    talk.answer(&heard.calls.iter().map(answered).collect::<Vec<_>>());
}

fn check_heard(heard: &Heard, most: usize) {
    let usage = &heard.usage;
    let counts = [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.cache_write_tokens];
    assert!(counts.iter().all(|count| *count >= 0) && usage.context() >= 0, "{usage:?}");
    let input =
        |call: &talk::Call| call.input.as_ref().map_or_else(String::len, |value| value.to_string().len());
    let calls: usize = heard.calls.iter().map(|call| call.id.len() + call.name.len() + input(call)).sum();
    assert!(heard.text.len() + calls <= most, "more than {most} bytes are heard: {heard:?}");
}
