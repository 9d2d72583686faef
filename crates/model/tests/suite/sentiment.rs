//! The sentiment model that ships with Forebay.

use std::fs;
use std::path::Path;

use forebay_model::{DeviceChoice, Label, TextModel, TextOutput};

use crate::common;

#[test]
fn the_shipped_model_tells_positive_from_negative_reviews() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/sentiment");
    let mut model = TextModel::load(&common::options_on(&path, DeviceChoice::Cpu, 8)).unwrap();
    let expected = [
        ("A wonderful, moving film with a great cast.", "positive"),
        ("I loved every minute of it.", "positive"),
        ("one of the best movies of the year", "positive"),
        ("A dull and lifeless mess.", "negative"),
        ("This is the worst movie I have seen in years.", "negative"),
        ("boring, predictable and far too long", "negative"),
    ];
    let texts = expected.map(|(text, _)| text.to_owned());
    for ((text, wanted), output) in expected.iter().zip(model.answer(&texts).unwrap()) {
        let Ok(TextOutput::Label(Label { label, score })) = output else { panic!("{output:?}") };
        assert_eq!(label, *wanted, "{text} ({score})");
        assert!(score > 0.5, "{text}: {score}");
    }
}

/// The model must be small, because everyone who clones the repository or pulls the container image
/// downloads it.
#[test]
fn the_shipped_model_has_at_most_30_megabytes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/sentiment");
    let files = fs::read_dir(path).unwrap();
    let bytes: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes <= 30_000_000, "{bytes} bytes");
}
