use super::*;
use proptest::prelude::*;

fn chat(more: &str) -> Result<Completion, ApiError> {
    let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":"Hi"}}]{more}}}"#);
    Completion::parse(Endpoint::Chat, body.as_bytes())
}

fn text(more: &str) -> Result<Completion, ApiError> {
    let body = format!(r#"{{"model":"m","prompt":"Hi"{more}}}"#);
    Completion::parse(Endpoint::Text, body.as_bytes())
}

const TOOL: &str = r#"{"type":"function","function":{"name":"f","description":"d","parameters":{"type":"object"},"strict":true}}"#;

#[test]
fn an_ordinary_request_should_be_understood() {
    let request = chat(
        r#","temperature":0,"stream":true,"stream_options":{"include_usage":true},"user":"u",
            "frequency_penalty":0,"tools":[],"stop":null,"n":1,"seed":-7,"logit_bias":{"5":-3},
            "stop":["a","b"],"logprobs":true,"top_logprobs":2,"max_tokens":5,"max_completion_tokens":6,
            "response_format":{"type":"text"},"parallel_tool_calls":true,"tool_choice":"none""#,
    )
    .unwrap();
    assert!(request.stream && request.include_usage);
    assert_eq!(request.max_tokens, Some(6));
    assert_eq!(request.logprobs, Some(2));
    assert_eq!(request.stop, ["a", "b"]);
    assert_eq!(request.sampling.logit_bias, [(5, -3.0)]);
    assert_eq!(request.sampling.seed, Some(-7));
    let parts = br#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]}"#;
    let request = Completion::parse(Endpoint::Chat, parts).unwrap();
    assert_eq!(
        request.prompt,
        Prompt::Messages(vec![ChatMessage::new("user", "ab")])
    );
}

#[test]
fn as_many_answers_should_be_computed_as_are_given() {
    let of = |more: &str| {
        let body = format!(r#"{{"model":"m","prompt":"x"{more}}}"#);
        Completion::parse(Endpoint::Text, body.as_bytes())
    };
    for (more, n) in [
        ("", 1),
        (r#","best_of":1"#, 1),
        (r#","n":3,"best_of":3"#, 3),
    ] {
        assert_eq!(of(more).unwrap().n, n);
    }
    for more in [
        r#","n":3,"best_of":4"#,
        r#","n":3,"best_of":2"#,
        r#","best_of":0"#,
    ] {
        assert_eq!(of(more).unwrap_err().param.as_deref(), Some("best_of"));
    }
}

#[test]
fn a_long_name_should_not_make_a_long_error() {
    let body = format!(r#"{{"model":"m","prompt":"x","{}":1}}"#, "é".repeat(5000));
    let error = Completion::parse(Endpoint::Text, body.as_bytes()).unwrap_err();
    assert_eq!(error.code, "unsupported_parameter");
    assert!(error.body().to_string().len() < 1000);
}

#[test]
fn what_would_change_the_answer_and_is_not_understood_should_be_refused_by_name() {
    for (field, param) in [
        (r#""logit_bias":{"x":1}"#, "logit_bias"),
        (r#""logit_bias":{"1":101}"#, "logit_bias"),
        (r#""n":0"#, "n"),
        (r#""n":17"#, "n"),
        (r#""best_of":2"#, "best_of"),
        (r#""temperature":-1"#, "temperature"),
        (r#""temperature":"hot""#, "temperature"),
        (r#""top_p":0"#, "top_p"),
        (r#""top_k":-2"#, "top_k"),
        (r#""max_tokens":0"#, "max_tokens"),
        (r#""max_tokens":1.5"#, "max_tokens"),
        (r#""prompt":"x""#, "prompt"),
        (r#""echo":true"#, "echo"),
        (r#""stop":["a","b","c","d","e"]"#, "stop"),
        (r#""stop":"""#, "stop"),
        (r#""top_logprobs":3"#, "top_logprobs"),
        (r#""logprobs":true,"top_logprobs":21"#, "top_logprobs"),
        (
            r#""response_format":{"type":"xml"}"#,
            "response_format.type",
        ),
        (
            r#""response_format":{"type":"text","more":1}"#,
            "response_format.more",
        ),
        (
            r#""response_format":{"type":"json_object"},"guided_regex":"a""#,
            "response_format",
        ),
        (r#""stream_options":{"more":1}"#, "stream_options.more"),
        (r#""tool_choice":"required""#, "tool_choice"),
        (r#""tools":[{"type":"web"}]"#, "tools[0].type"),
        (
            r#""tools":[{"type":"function","function":{"name":"a b"}}]"#,
            "tools[0].function.name",
        ),
        (r#""reasoning_effort":"high""#, "reasoning_effort"),
        (r#""functions":[{"name":"f"}]"#, "functions"),
        (r#""modalities":["audio"]"#, "modalities"),
    ] {
        let error = chat(&format!(",{field}")).expect_err(field);
        assert_eq!(
            (error.status, error.param.as_deref()),
            (400, Some(param)),
            "{field}"
        );
    }
    let twice = format!(r#","tools":[{TOOL},{TOOL}]"#);
    assert!(chat(&twice).unwrap_err().message.contains("two functions"));
}

#[test]
fn fields_with_the_value_that_they_have_when_left_out_should_change_nothing() {
    let plain = (chat("").unwrap(), text("").unwrap());
    for (field, other) in [
        (r#""use_beam_search":false"#, r#""use_beam_search":true"#),
        (r#""length_penalty":1.0"#, r#""length_penalty":0.9"#),
        (r#""length_penalty":1"#, r#""length_penalty":"1""#),
        (r#""priority":0"#, r#""priority":1"#),
        (r#""min_tokens":0"#, r#""min_tokens":1"#),
        (r#""stop_token_ids":[]"#, r#""stop_token_ids":[1]"#),
        (r#""bad_words":[]"#, r#""bad_words":["a"]"#),
        (r#""detokenize":true"#, r#""detokenize":false"#),
        (
            r#""skip_special_tokens":true"#,
            r#""skip_special_tokens":false"#,
        ),
        (
            r#""spaces_between_special_tokens":true"#,
            r#""spaces_between_special_tokens":false"#,
        ),
    ] {
        let (field, other) = (format!(",{field}"), format!(",{other}"));
        assert_eq!(chat(&field).expect(&field), plain.0);
        assert_eq!(text(&field).expect(&field), plain.1);
        for error in [chat(&other), text(&other)] {
            assert_eq!(error.expect_err(&other).code, "unsupported_parameter");
        }
    }
    // Chats hold these tokens already, texts do not.
    let adds = |on: bool| format!(r#","add_special_tokens":{on}"#);
    assert!(chat(&adds(false)).is_ok() && chat(&adds(true)).is_err());
    assert!(text(&adds(true)).is_ok() && text(&adds(false)).is_err());
}

#[test]
fn bodies_that_are_no_request_should_be_refused() {
    for body in [
        "",
        "{",
        "[]",
        "{}",
        r#"{"model":"m"}"#,
        r#"{"model":"m","messages":[]}"#,
        r#"{"model":"m","messages":[{"role":"user"}]}"#,
        r#"{"model":"m","messages":[{"role":"boss","content":"x"}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":"x","audio":{}}]}"#,
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"image_url"}]}]}"#,
    ] {
        let error = Completion::parse(Endpoint::Chat, body.as_bytes()).expect_err(body);
        assert_eq!(error.status, 400);
    }
    let large = vec![b' '; crate::limits::BODY_BYTES + 1];
    let error = Completion::parse(Endpoint::Chat, &large).unwrap_err();
    assert_eq!(error.status, 413);
    let deep = format!(
        r#"{{"model":"m","prompt":{}1{}}}"#,
        "[".repeat(50_000),
        "]".repeat(50_000)
    );
    let error = Completion::parse(Endpoint::Text, deep.as_bytes()).unwrap_err();
    assert!(error.message.contains("recursion"), "{}", error.message);
}

#[test]
fn texts_should_take_prompts_in_all_shapes_and_legacy_logprobs() {
    let request = text(r#","echo":true,"max_tokens":0,"logprobs":5"#).unwrap();
    assert!(request.echo);
    assert_eq!((request.max_tokens, request.logprobs), (Some(0), Some(5)));
    assert_eq!(text(r#","logprobs":false"#).unwrap().logprobs, None);
    let tokens =
        Completion::parse(Endpoint::Text, br#"{"model":"m","prompt":[[1,2],[3]]}"#).unwrap();
    let inputs = vec![Input::Tokens(vec![1, 2]), Input::Tokens(vec![3])];
    assert_eq!(tokens.prompt, Prompt::Inputs(inputs));
    let many = format!(r#"{{"model":"m","n":16,"prompt":{:?}}}"#, ["a"; 16]);
    let error = Completion::parse(Endpoint::Text, many.as_bytes()).unwrap_err();
    assert_eq!(error.param.as_deref(), Some("n"));
}

#[test]
fn tools_and_the_turns_about_them_should_be_understood() {
    let body = format!(
        r#"{{"model":"m","tools":[{TOOL}],"tool_choice":{{"type":"function","function":{{"name":"f"}}}},
        "parallel_tool_calls":false,
        "messages":[{{"role":"user","content":"Hi"}},
        {{"role":"assistant","content":null,"refusal":null,"tool_calls":[{{"id":"c","type":"function","function":{{"name":"f","arguments":"{{\"a\": 1}}"}}}}]}},
        {{"role":"tool","tool_call_id":"c","content":"ok"}}]}}"#
    );
    let request = Completion::parse(Endpoint::Chat, body.as_bytes()).unwrap();
    assert_eq!(request.tool_choice, ToolChoice::Function("f".into()));
    assert!(request.one_call);
    let Prompt::Messages(messages) = &request.prompt else {
        panic!("a chat has messages");
    };
    assert_eq!(messages[1].content, "");
    // Templates get arguments as an object.
    let turn = serde_json::to_value(&messages[1]).unwrap();
    assert_eq!(
        turn["tool_calls"][0]["function"]["arguments"],
        json!({"a": 1})
    );
    let again = Completion::parse(Endpoint::Chat, &request.canonical("m", 9)).unwrap();
    assert_eq!(again.prompt, request.prompt);
    let none = chat(&format!(r#","tools":[{TOOL}],"tool_choice":"none""#)).unwrap();
    assert!(none.tools.is_empty());
}

/// A number that decimal digits hold exactly.
fn number(from: i32, to: i32) -> impl Strategy<Value = f64> {
    (from * 64..=to * 64).prop_map(|number| f64::from(number) / 64.0)
}

prop_compose! {
    fn sampling()(
        temperature in number(0, 2), top_p in (1..=64).prop_map(|p| f64::from(p) / 64.0), top_k in 0..100u32, min_p in number(0, 1),
        frequency_penalty in number(-2, 2), presence_penalty in number(-2, 2),
        repetition_penalty in number(1, 10),
        bias in proptest::collection::btree_map(0..1000u32, number(-100, 100), 0..5),
        seed in proptest::option::of(any::<i64>()),
    ) -> Sampling {
        Sampling { temperature, top_p, top_k, min_p, frequency_penalty, presence_penalty,
            repetition_penalty, logit_bias: bias.into_iter().collect(), seed }
    }
}

fn format() -> impl Strategy<Value = Format> {
    prop_oneof![
        Just(Format::Text),
        Just(Format::JsonObject),
        Just(Format::JsonSchema(
            json!({"type": "object", "properties": {"a": {"type": "string"}}})
        )),
        Just(Format::GuidedJson(json!({"type": "integer"}))),
        "[a-z]{1,8}".prop_map(Format::Regex),
    ]
}

prop_compose! {
    fn completion()(
        chat in any::<bool>(), contents in proptest::collection::vec(".*", 1..4), n in 1..8u32,
        max_tokens in 1..1000u32, echo in any::<bool>(), sampling in sampling(),
        logprobs in proptest::option::of(0..=20u32),
        stop in proptest::collection::vec(".{1,9}", 0..4), ignore_eos in any::<bool>(),
        format in format(), tools in 0..3usize,
    ) -> Completion {
        let tools: Vec<Tool> = (0..tools).filter(|_| chat).map(|at| Tool {
            name: format!("f{at}"),
            description: (at > 0).then(|| "what it does".to_owned()),
            parameters: json!({"type": "object"}),
        }).collect();
        Completion {
            endpoint: if chat { Endpoint::Chat } else { Endpoint::Text },
            model: "m".into(),
            prompt: if chat {
                Prompt::Messages(contents.iter().map(|c| ChatMessage::new("user", c)).collect())
            } else {
                Prompt::Inputs(contents.iter().map(|c| Input::Text(c.clone())).collect())
            },
            max_tokens: Some(max_tokens), n, echo: echo && !chat, sampling, logprobs, stop, ignore_eos,
            format, one_call: echo && !tools.is_empty(), tools, tool_choice: ToolChoice::Auto,
            template: Map::new(), stream: true, include_usage: false,
        }
    }
}

proptest! {
    #[test]
    fn the_canonical_body_should_be_the_same_request(request in completion()) {
        let body = request.canonical("m", request.max_tokens.unwrap());
        let again = Completion::parse(request.endpoint, &body).unwrap();
        prop_assert_eq!(&again, &request);
        prop_assert_eq!(again.canonical("m", 7), request.canonical("m", 7));
    }

    #[test]
    fn any_bytes_should_be_read_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Completion::parse(Endpoint::Chat, &body);
        let _ = Completion::parse(Endpoint::Text, &body);
        let _ = crate::EmbeddingsRequest::parse(&body);
    }
}
