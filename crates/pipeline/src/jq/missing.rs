//! The names that jq knows and expressions do not, with the reasons.

const ONE_VALUE: &str =
    "an expression sees one value; a window, such as `partition`, makes an array of several";
const NO_MODULES: &str = "expressions have no modules; write `def` in the expression";
const VARIABLES: &str = "write `env`, or `${NAME}` in a string of the pipeline file";
const NOT_MADE: &str = "jaq, which runs the expressions, lacks it";

/// Filters, formats and variables of jq that do not exist here. docs/operators.md lists them.
const MISSING: [(&str, &str); 20] = [
    ("$ENV", VARIABLES),
    ("$__loc__", NOT_MADE),
    ("$__prog_args", ONE_VALUE),
    ("@base32", NOT_MADE),
    ("@base32d", NOT_MADE),
    ("ascii", "write `[.] | implode`"),
    ("builtins", NOT_MADE),
    ("date", "write `todate`"),
    ("dateadd", "add seconds to the result of `fromdate`"),
    ("datesub", "subtract seconds from the result of `fromdate`"),
    ("format", "write the format itself, such as `@csv`"),
    ("get_search_list", NO_MODULES),
    ("have_decnum", NOT_MADE),
    ("have_literal_numbers", NOT_MADE),
    ("input", ONE_VALUE),
    ("input_filename", ONE_VALUE),
    ("input_line_number", ONE_VALUE),
    ("inputs", ONE_VALUE),
    ("lgamma_r", NOT_MADE),
    ("modulemeta", NO_MODULES),
];

/// Returns why `name`, which jq has, does not exist here.
pub(super) fn reason(name: &str) -> Option<&'static str> {
    MISSING.iter().find(|(missing, _)| *missing == name).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::{MISSING, reason};
    use crate::jq::Jq;

    const PAGE: &str = include_str!("../../../../docs/operators.md");

    /// The filters of jq 1.8, with the numbers of their arguments.
    const OF_JQ: &str = "IN/1 IN/2 INDEX/1 INDEX/2 JOIN/2 JOIN/3 JOIN/4 abs/0 acos/0 acosh/0 add/0 add/1 all/0 all/1 all/2 \
        any/0 any/1 any/2 arrays/0 ascii/0 ascii_downcase/0 ascii_upcase/0 asin/0 asinh/0 atan/0 atan2/2 atanh/0 \
        booleans/0 bsearch/1 builtins/0 capture/1 capture/2 cbrt/0 ceil/0 combinations/0 combinations/1 contains/1 \
        copysign/2 cos/0 cosh/0 date/0 dateadd/2 datesub/2 debug/0 debug/1 del/1 delpaths/1 drem/2 empty/0 endswith/1 \
        env/0 erf/0 erfc/0 error/0 error/1 exp/0 exp10/0 exp2/0 explode/0 expm1/0 fabs/0 fdim/2 finites/0 first/0 \
        first/1 flatten/0 flatten/1 floor/0 fma/3 fmax/2 fmin/2 fmod/2 format/1 frexp/0 from_entries/0 fromdate/0 \
        fromdateiso8601/0 fromjson/0 fromstream/1 gamma/0 get_search_list/0 getpath/1 gmtime/0 group_by/1 gsub/2 gsub/3 \
        halt/0 halt_error/0 halt_error/1 has/1 have_decnum/0 have_literal_numbers/0 hypot/2 implode/0 in/1 index/1 \
        indices/1 infinite/0 input/0 input_filename/0 input_line_number/0 inputs/0 inside/1 isempty/1 isfinite/0 \
        isinfinite/0 isnan/0 isnormal/0 iterables/0 j0/0 j1/0 jn/2 join/1 keys/0 keys_unsorted/0 last/0 last/1 ldexp/2 \
        length/0 lgamma/0 lgamma_r/0 limit/2 localtime/0 log/0 log10/0 log1p/0 log2/0 logb/0 ltrim/0 \
        ltrimstr/1 map/1 map_values/1 match/1 match/2 max/0 max_by/1 min/0 min_by/1 mktime/0 modf/0 modulemeta/0 nan/0 \
        nearbyint/0 nextafter/2 nexttoward/2 normals/0 not/0 now/0 nth/1 nth/2 nulls/0 numbers/0 objects/0 path/1 \
        paths/0 paths/1 pick/1 pow/2 pow10/0 range/1 range/2 range/3 recurse/0 recurse/1 recurse/2 repeat/1 reverse/0 \
        rindex/1 rint/0 round/0 rtrim/0 rtrimstr/1 scalars/0 scalb/2 scalbln/2 scan/1 scan/2 select/1 setpath/2 \
        significand/0 sin/0 sinh/0 skip/2 sort/0 sort_by/1 split/1 split/2 splits/1 splits/2 sqrt/0 startswith/1 \
        stderr/0 strflocaltime/1 strftime/1 strings/0 strptime/1 sub/2 sub/3 tan/0 tanh/0 test/1 test/2 tgamma/0 \
        toarray/0 to_entries/0 toboolean/0 todate/0 todateiso8601/0 tojson/0 tonumber/0 tostream/0 tostring/0 \
        transpose/0 trim/0 trimstr/1 trunc/0 truncate_stream/1 type/0 unique/0 unique_by/1 until/2 utf8bytelength/0 \
        values/0 walk/1 while/2 with_entries/1 y0/0 y1/0 yn/2 @text/0 @json/0 @csv/0 @tsv/0 @html/0 @uri/0 @urid/0 \
        @sh/0 @base64/0 @base64d/0 @base32/0 @base32d/0 $ENV/0 $__loc__/0 $__prog_args/0";

    #[test]
    fn each_filter_of_jq_exists_here_or_is_listed_with_the_reason_d8() {
        for filter in OF_JQ.split_whitespace() {
            let (name, arity) = filter.rsplit_once('/').unwrap();
            let arguments = vec!["."; arity.parse().unwrap()].join("; ");
            let call =
                if arguments.is_empty() { name.to_owned() } else { format!("{name}({arguments})") };
            match (Jq::compile(&call, &[]), reason(name)) {
                (Ok(_), None) => {}
                (Err(error), Some(reason)) => {
                    assert_eq!(error, format!("jq's `{name}` is not supported here: {reason}"));
                    let row = format!("| `{name}` | {reason} |");
                    assert!(PAGE.contains(&row), "docs/operators.md should have: {row}");
                }
                (Ok(_), Some(_)) => panic!("{filter} exists"),
                (Err(error), None) => panic!("{filter}: {error}"),
            }
        }
        for (name, _) in MISSING {
            assert!(OF_JQ.contains(&format!("{name}/")), "jq has no {name}");
        }
    }

    #[test]
    fn a_name_that_jq_does_not_have_either_is_not_said_to_be_of_jq_d8() {
        assert_eq!(Jq::compile("inptu", &[]).unwrap_err(), "jq has no filter `inptu`");
        assert_eq!(Jq::compile("$env", &[]).unwrap_err(), "there is no variable `$env`");
        assert!(Jq::compile("limit(.)", &[]).unwrap_err().contains("with 1 argument"));
    }
}
