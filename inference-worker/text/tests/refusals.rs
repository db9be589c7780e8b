//! What a stranger's files may not do.

use openledger_text::{ChatTemplate, Conversation, Message, TextError, TextModel, Tokenizer};

fn user(content: &str) -> Vec<Message> {
    vec![Message::new("user", content)]
}

fn template(source: &str) -> ChatTemplate {
    ChatTemplate::new(source.into(), None, None).unwrap()
}

#[test]
fn an_endless_template_is_stopped() {
    let endless = template(
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
    );
    assert!(matches!(
        endless.render(&Conversation::new(&user("hi"))),
        Err(TextError::Template(_))
    ));
    let recursive = template("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
    assert!(matches!(
        recursive.render(&Conversation::new(&user("hi"))),
        Err(TextError::Template(_))
    ));
}

#[test]
fn a_template_cannot_read_the_clock_or_files() {
    assert!(template("{{ strftime_now('%Y') }}")
        .render(&Conversation::new(&user("hi")))
        .is_err());
    assert!(template("{% include '/etc/hostname' %}")
        .render(&Conversation::new(&user("hi")))
        .is_err());
}

#[test]
fn a_template_cannot_write_without_end() {
    let doubling = template(
        "{% set n = namespace(x='0123456789abcdef') %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{{ n.x }}{% endfor %}",
    );
    let error = doubling
        .render(&Conversation::new(&user("hi")))
        .unwrap_err();
    assert!(error.to_string().contains("too much"), "{error}");
}

#[test]
fn a_clock_is_there_only_when_it_is_asked_for() {
    let source = "{{ strftime_now('%Y') if strftime_now is defined else 'never' }}";
    let hi = user("hi");
    let hi = Conversation::new(&hi);
    assert_eq!(template(source).render(&hi).unwrap(), "never");
    let year = template(source).with_clock().render(&hi).unwrap();
    assert!(year.parse::<u32>().unwrap() > 2024, "{year}");
    let odd = template("{{ strftime_now('%!') }}").with_clock();
    assert!(matches!(odd.render(&hi), Err(TextError::Template(_))));
}

#[test]
fn broken_files_are_refused() {
    assert!(matches!(
        ChatTemplate::new("{% if %}".into(), None, None),
        Err(TextError::Template(_))
    ));
    assert!(matches!(
        ChatTemplate::from_bytes(Some(b"{"), None),
        Err(TextError::Config(_))
    ));
    assert!(matches!(
        Tokenizer::from_bytes(b"{}"),
        Err(TextError::Tokenizer(_))
    ));
    assert!(matches!(
        Tokenizer::from_bytes(b"\xff"),
        Err(TextError::Tokenizer(_))
    ));
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(
        TextModel::from_dir(empty.path()),
        Err(TextError::Io { .. })
    ));
}

#[test]
fn a_model_without_template_refuses_conversations_but_takes_text() {
    let dir =
        std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo test sets it"))
            .join("goldens/byte-level");
    let model = TextModel::new(Tokenizer::from_dir(&dir).unwrap(), None);
    assert!(matches!(
        model.count_prompt(&user("hi")),
        Err(TextError::NoChatTemplate)
    ));
    assert!(!model.count_text("hi").unwrap().is_empty());
}

#[test]
fn the_template_named_default_is_taken_of_several() {
    let config = br#"{"chat_template": [{"name": "tool_use", "template": "T"}, {"name": "default", "template": "D{{ bos_token }}{{ eos_token }}"}],
        "bos_token": {"content": "<s>", "lstrip": false}, "eos_token": "</s>"}"#;
    let template = ChatTemplate::from_bytes(Some(config), None)
        .unwrap()
        .unwrap();
    assert_eq!(
        template.render(&Conversation::new(&user("hi"))).unwrap(),
        "D<s></s>"
    );
}
