//! Settings of `config.json` that change the encoder are refused or named.

use serde_json::json;

use crate::common::{error_message, options, warnings, with};

#[test]
fn settings_that_make_another_encoder_are_refused_by_name_a7() {
    for (key, value, named) in [
        ("is_decoder", json!(true), "is_decoder = true, supported: false"),
        ("add_cross_attention", json!(true), "add_cross_attention = true, supported: false"),
        ("is_encoder_decoder", json!(true), "is_encoder_decoder = true"),
        ("cross_attention_hidden_size", json!(32), "cross_attention_hidden_size = 32"),
        (
            "position_embedding_type",
            json!("relative_key"),
            "position_embedding_type = relative_key",
        ),
        ("position_embedding_type", json!("alibi"), "position_embedding_type = alibi"),
        ("hidden_act", json!("silu"), "hidden_act = silu"),
        ("pruned_heads", json!({"0": [1]}), "pruned_heads = {\"0\":[1]}"),
        ("quantization_config", json!({"quant_method": "gptq"}), "quantization_config"),
        ("layer_norm_eps", json!(-1), "no valid `layer_norm_eps`"),
        ("layer_norm_eps", json!("small"), "no valid `layer_norm_eps`"),
        ("problem_type", json!("ranking"), "problem_type = ranking"),
    ] {
        let message = error_message(&with("config.json", |config| config[key] = value));
        assert!(message.starts_with("config.json") && message.contains(named), "{message}");
    }
}

#[test]
fn settings_without_an_effect_are_accepted_silently_a7() {
    let directory = with("config.json", |config| {
        config["pruned_heads"] = json!({});
        config["chunk_size_feed_forward"] = json!(16);
        config["torch_dtype"] = json!("float16");
        config["_name_or_path"] = json!("other");
        config["output_hidden_states"] = json!(true);
        config["auto_map"] = json!({});
    });
    assert_eq!(warnings(&options(&directory)), [""; 0]);
}

#[test]
fn unknown_settings_are_named_in_a_warning_a7() {
    let directory = with("config.json", |config| {
        config["feed_forward_type"] = json!("geglu");
        config["auto_map"] = json!({"AutoModel": "own.Model"});
    });
    assert_eq!(
        warnings(&options(&directory)),
        [
            "config.json has settings that are not applied, so the answers may not be the model's: `auto_map`, \
          `feed_forward_type` = \"geglu\""
        ]
    );
}

#[test]
fn other_names_of_the_approximated_gelu_are_the_same_function_a7() {
    for name in ["gelu_fast", "gelu_accurate", "gelu_python_tanh", "gelu_python"] {
        let directory = with("config.json", |config| config["hidden_act"] = json!(name));
        assert_eq!(warnings(&options(&directory)), [""; 0], "{name}");
    }
}
