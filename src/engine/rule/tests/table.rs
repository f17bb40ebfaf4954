/// Conditions that evalexpr accepts, or that people write, and what is said about them; the column is counted within the
/// condition, from 1.
pub(super) const TRAPS: &[(&str, usize, &str)] = &[
    (
        "",
        1,
        "the condition is empty (write a comparison such as `faithfulness_1h < 0.92`)",
    ),
    (
        "faithfulness_1h = 0.9",
        17,
        "a condition cannot assign: `=` is not a comparison (write `==`, or better `<` or `>`)",
    ),
    (
        "faithfulness_1h += 1",
        17,
        "a condition cannot assign (compare with",
    ),
    (
        "faithfulness_1h &&= true",
        17,
        "a condition cannot assign (compare with",
    ),
    (
        "faithfulness_1h < 0.9; true",
        22,
        "a condition is one expression: `;` cannot chain several",
    ),
    (
        "(faithfulness_1h, 2) < 3",
        17,
        "`,` has no meaning here (decimals are written with a point: `0.92`)",
    ),
    ("faithfulness_1h < 0,92", 20, "`,` has no meaning here"),
    ("faithfulness_1h < \"a\"", 19, "a condition holds no text"),
    ("faithfulness_1h < 'a'", 19, "a condition holds no text"),
    (
        "0.1 < faithfulness_1h < 0.9",
        23,
        "comparisons cannot be chained (write two comparisons joined by `&&`",
    ),
    (
        "0.1 < faithfulness_1h == 0.9 < 1",
        23,
        "comparisons cannot be chained",
    ),
    (
        "(0.1 < faithfulness_1h) == (latency_1h > 3)",
        25,
        "`==` compares numbers, not true or false",
    ),
    (
        "1h > 2",
        1,
        "`1h` is neither a number nor a metric (a window belongs behind a metric: `faithfulness_1h`)",
    ),
    (
        "latency_1h > 3s",
        14,
        "`3s` is neither a number nor a metric (numbers carry no unit: write `3` in the metric's own unit)",
    ),
    (
        "latency_1h > 1_000",
        14,
        "`1_000` is not a number (write `1000`)",
    ),
    ("latency_1h > 0x10", 14, "`0x10` is not a decimal number"),
    (
        "cost_1h > $0.05",
        11,
        "`$` cannot stand in a condition (numbers carry no unit",
    ),
    ("latency_1h < 1e999", 14, "`1e999` is too large a number"),
    (
        "latency_1h < inf",
        14,
        "`inf` is not a number that a rule may name",
    ),
    (
        "latency_1h < NaN",
        14,
        "`NaN` is not a number that a rule may name",
    ),
    ("latency_1h <", 12, "something is missing after `<`"),
    ("< 0.9", 1, "something is missing before `<`"),
    (
        "latency_1h < * 2",
        14,
        "something is missing between `<` and `*`",
    ),
    (
        "faithfulness_1h < 92%",
        21,
        "something is missing after `%` (`%` is the remainder; write `0.92`)",
    ),
    (
        "faithfulness_1h < 92% && latency_1h > 5",
        21,
        "something is missing after `%` (`%` is the remainder; write `0.92`)",
    ),
    (
        "faithfulness_1h 0.9",
        17,
        "an operator is missing between `faithfulness_1h` and `0.9`",
    ),
    (
        "2 (faithfulness_1h) > 1",
        3,
        "an operator is missing between `2` and `(`",
    ),
    (
        "baseline cost_1h > 1",
        10,
        "an operator is missing between `baseline` and `cost_1h`",
    ),
    (
        "cost_1h > 1 and cost_1h < 2",
        13,
        "`and` is no operator (write `&&`)",
    ),
    ("not cost_1h > 1", 1, "`not` is no operator (write `!`)"),
    (
        "cost_1h > 1 & cost_1h < 2",
        13,
        "`&` is no operator (write `&&`)",
    ),
    (
        "cost_1h > 1 | cost_1h < 2",
        13,
        "`|` is no operator (write `||`)",
    ),
    ("cost_1h => 1", 9, "`=>` is no operator (write `>=`)"),
    ("cost_1h ≤ 1", 9, "`≤` is no operator (write `<=`)"),
    ("cost_1h <> 1", 9, "`<>` is no operator (write `!=`)"),
    ("(cost_1h > 1", 1, "this `(` is never closed"),
    ("cost_1h > 1)", 12, "this `)` closes nothing"),
    (
        "cost_1h > ()",
        12,
        "there is nothing between these parentheses",
    ),
    (
        "cost_1h > 1 // why",
        13,
        "comments cannot stand inside a condition",
    ),
    (
        "cost_1h > /* x */ 1",
        11,
        "comments cannot stand inside a condition",
    ),
    ("cost_1h > 1 || true", 16, "`true` is not a measurement"),
    (
        "0.5",
        1,
        "the condition reads no measurement: it is always the same",
    ),
    (
        "1 < 2",
        1,
        "the condition reads no measurement: it is always the same",
    ),
    (
        "cost_1h > 1 && 1 < 2",
        16,
        "both sides are constants: the comparison is always the same",
    ),
    ("cost_1h > 1/0", 11, "`1/0` is not a finite number"),
    (
        "cost_1h",
        1,
        "the condition is a number, not true or false (compare it: `cost_1h > 0.1`)",
    ),
    (
        "cost_1h + 1",
        1,
        "the condition is a number, not true or false",
    ),
    (
        "cost_1h && latency_1h > 1",
        1,
        "`&&` joins comparisons, `cost_1h` is a number (compare it: `cost_1h > 0.1`)",
    ),
    (
        "latency_1h > 1 || 3",
        19,
        "`||` joins comparisons, `3` is a number",
    ),
    (
        "(cost_1h > 1) + 1 > 1",
        1,
        "`(cost_1h > 1)` is true or false: `+` needs numbers",
    ),
    (
        "1 - (cost_1h > 1) > 1",
        5,
        "`(cost_1h > 1)` is true or false: `-` needs numbers",
    ),
    (
        "-(cost_1h > 1) > 1",
        2,
        "`(cost_1h > 1)` is true or false: `-` needs numbers",
    ),
    (
        "!cost_1h > 1",
        1,
        "`!` negates a comparison, `cost_1h` is a number (put the comparison in parentheses",
    ),
    (
        "cost_1h ^ 2 ^ 3 > 1",
        13,
        "`a ^ b ^ c` can be read two ways (use parentheses)",
    ),
    ("max(cost_1h) > 1", 1, "there is no function `max`"),
    (
        "math::ln(cost_1h) > 1",
        5,
        "`:` cannot stand in a condition",
    ),
    (
        "cost_1h > baseline()",
        11,
        "`baseline(…)` takes the name of one measurement (for example `baseline(cost_p95_1h)`)",
    ),
    (
        "cost_1h > baseline(3)",
        11,
        "`baseline(…)` takes the name of one measurement",
    ),
    (
        "cost_1h > baseline(cost_1h * 2)",
        11,
        "`baseline(…)` takes the name of one measurement",
    ),
    (
        "cost_1h > baseline(baseline)",
        11,
        "`baseline(…)` takes the name of one measurement",
    ),
    (
        "baseline > 3",
        1,
        "the condition reads only the baseline, nothing of the variant",
    ),
    (
        "baseline(cost_1h) > 3",
        1,
        "the condition reads only the baseline",
    ),
    (
        "cost_1h > 1 && latency_1h > baseline",
        29,
        "`baseline` alone is ambiguous: the condition reads several measurements (write `baseline(cost_1h)`)",
    ),
    (
        "faithfullness_1h < 0.9",
        1,
        "there is no metric `faithfullness` (did you mean `faithfulness_1h`?)",
    ),
    (
        "cost_1h > 1 && latency_24h > 3",
        24,
        "windows longer than 6h are not available to rules yet: `24h`",
    ),
    (
        "slo.answers.burn_1h > 3",
        1,
        "`slo.answers.burn_1h`: service level objectives are not available to rules yet",
    ),
];
