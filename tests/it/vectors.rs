//! `stats` against reference values, most of them from independent packages.
//!
//! A few cases of every group are in `tests/data/stats_vectors.json`; all of them in `../shared/vectors/stats_vectors.json`,
//! beside the checkout, and are run when it is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rearguard::stats::betting::{
    hedged_capital, hedged_interval, ln_e_grid, mixture_intervals, predictable_intervals,
};
use rearguard::stats::bounded_mean::{Moments, Null};
use rearguard::stats::detector::{BETS, Step, cusum, shiryaev_roberts};
use rearguard::stats::group_sequential::{Spending, bounds};
use rearguard::stats::mixture::{BetaBinomial, GammaExponential, NormalMixture, Sides, probability_interval};
use rearguard::stats::preference::Pairs;
use rearguard::stats::quantile::{band, equality_p_value, ln_e_not_above, rank_offsets, stitched_offset};
use rearguard::stats::rate::{Batch, arm_share, ln_e_batches, ln_e_known_split};
use rearguard::stats::sample_ratio::SampleRatio;
use rearguard::stats::uplift::{Arm, Uplift};
use serde_json::Value;

const GROUPS: [&str; 26] = [
    "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "b1", "b2", "b3", "b4", "b5", "b6", "c1", "c2", "c3",
    "c4", "d1", "d2", "d3", "e1", "e2", "f1", "f2", "g1",
];

#[test]
fn every_reference_value_is_met() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    run("a few of every group", &fs::read_to_string(root.join("tests/data/stats_vectors.json")).unwrap());
    match fs::read_to_string(root.join("../shared/vectors/stats_vectors.json")) {
        Ok(all) => run("all", &all),
        Err(_) => println!("../shared is absent: the other reference values were not run"),
    }
}

fn run(what: &str, text: &str) {
    let file: Value = serde_json::from_str(text).unwrap();
    let mut ran: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for case in file["cases"].as_array().unwrap() {
        let case = Case { case, streams: &file["streams"] };
        let group = case.text("group").to_owned();
        for (name, expected, found, tolerance) in case.run() {
            // Reference values are printed with twelve digits.
            let close = (found - expected).abs() <= tolerance * expected.abs() + 1e-12;
            if !close {
                wrong.push(format!("{} {name}: {found} instead of {expected}", case.text("id")));
            }
        }
        *ran.entry(group).or_default() += 1;
    }
    println!("reference values ({what}): {} cases, by group {ran:?}", ran.values().sum::<usize>());
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(ran.keys().map(String::as_str).collect::<Vec<_>>(), GROUPS);
}

struct Case<'a> {
    case: &'a Value,
    streams: &'a Value,
}

/// What is compared: name, expected, found, relative tolerance.
type Compared = (String, f64, f64, f64);

const TIGHT: f64 = 1e-9;

impl Case<'_> {
    fn run(&self) -> Vec<Compared> {
        match self.text("group") {
            "a1" | "a2" | "a3" | "a4" | "a5" | "a6" | "a7" | "a8" => self.bounded_mean(),
            "b1" | "b2" | "b3" | "b4" | "b5" | "b6" => self.rates(),
            "c1" | "c2" | "c3" | "c4" => self.quantiles(),
            "d1" => self.uplift(),
            "d2" | "d3" => self.group_sequential(),
            "e1" | "e2" => self.sample_ratio(),
            "f1" | "f2" => self.preference(),
            "g1" => self.detector(),
            other => panic!("no test for group {other}"),
        }
    }

    fn bounded_mean(&self) -> Vec<Compared> {
        let alpha = || self.number("alpha");
        match self.text("group") {
            "a1" => {
                let mixture = self.gamma_exponential();
                vec![self.compare("bound", mixture.bound(self.number("v"), alpha()))]
            }
            "a2" => {
                let log_e = self.gamma_exponential().ln_e(self.number("s"), self.number("v"));
                vec![self.compare("log_e", log_e)]
            }
            // The package halves alpha twice.
            "a3" => self.intervals(&mixture_intervals(&self.stream(), alpha() / 4.0, self.number("v_opt"))),
            "a4" => {
                self.intervals(&predictable_intervals(&self.stream(), alpha(), self.number("truncation")))
            }
            "a5" => {
                let capital = hedged_capital(&self.stream(), self.number("m"), alpha(), self.number("theta"));
                self.at_times("capital", |t| capital[t - 1], TIGHT)
            }
            "a6" => {
                let interval = |t: usize| hedged_interval(&self.stream()[..t], alpha(), 1_000);
                // The grid's own step, which is not relative.
                let near = |(name, expected, found, _): Compared| {
                    (name, 0.0, (found - expected).abs().max(1.001e-3) - 1.001e-3, 0.0)
                };
                let mut all = self.at_times("lower", |t| interval(t).0, 0.0);
                all.extend(self.at_times("upper", |t| interval(t).1, 0.0));
                all.into_iter().map(near).collect()
            }
            "a7" => {
                let (m, grid, scores) = (self.number("m"), self.numbers("u_grid"), self.stream());
                let e = |t: usize| {
                    let counts: Vec<(f64, f64)> = scores[..t].iter().map(|x| (*x, 1.0)).collect();
                    let moments = moments(&scores[..t]);
                    let exact = ln_e_grid(&counts, m, Null::AtLeast, &grid);
                    assert!(moments.ln_e_grid(m, Null::AtLeast, &grid) <= exact + 1e-12);
                    exact.exp()
                };
                self.at_times("e", e, TIGHT)
            }
            _ => {
                let sides = if self.case["input"]["is_one_sided"] == true { Sides::One } else { Sides::Two };
                let mixture = NormalMixture::new(self.number("v_opt"), self.number("alpha_opt"), sides);
                let v = self.number("v");
                let bound = mixture.bound(v, alpha());
                vec![self.compare("bound", bound), self.compare("log_e_at_bound", mixture.ln_e(bound, v))]
            }
        }
    }

    fn rates(&self) -> Vec<Compared> {
        match self.text("group") {
            "b1" => {
                let (lower, upper) = probability_interval(
                    self.number("s"),
                    self.number("n"),
                    self.number("alpha"),
                    self.number("t_opt"),
                    self.number("alpha_opt"),
                );
                vec![self.compare("lower", lower), self.compare("upper", upper)]
            }
            "b2" => {
                let log_e = |sides| {
                    BetaBinomial::tuned(
                        self.number("p0"),
                        self.number("t_opt"),
                        self.number("alpha_opt"),
                        sides,
                    )
                    .ln_e(self.number("S"), self.number("n"))
                };
                vec![
                    self.compare("log_e", log_e(Sides::One)),
                    self.compare("log_e_two_sided", log_e(Sides::Two)),
                ]
            }
            "b3" => self.log_rate_ratio(),
            "b4" => {
                let blocks: Vec<Batch> = self.rows("blocks_nC_sC_nT_sT").iter().map(|b| batch(b)).collect();
                self.each("log_e_cum", &ln_e_batches(&blocks, self.number("gamma")), TIGHT)
            }
            "b5" => {
                let batch = batch(&["nC", "sC", "nT", "sT"].map(|name| self.number(name)));
                let (q_c, q_t, r) = (self.number("qC"), self.number("qT"), self.number("r"));
                vec![
                    self.compare("p_null_C", batch.null_rate(q_c, q_t, r)),
                    self.compare("log_e", batch.ln_e(q_c, q_t, r)),
                ]
            }
            _ => {
                let (r, rho) = (self.number("r"), self.number("rho_T"));
                let prior = (self.number("a"), self.number("b"));
                let log_e = ln_e_known_split(self.number("s_T"), self.number("s_C"), r, rho, prior);
                vec![self.compare("pi0", arm_share(r, rho)), self.compare("log_e", log_e)]
            }
        }
    }

    /// The share of the positives that are the treatment's, as the logarithm of its odds against the split.
    fn log_rate_ratio(&self) -> Vec<Compared> {
        let rho = self.numbers("rho");
        let counts = [self.number("s_C"), self.number("s_T")];
        let test = SampleRatio::new(rho.clone(), self.number("k"));
        let log_bf = test.ln_bayes_factor(&counts);
        let (low, high) = test.interval(&counts, 1, self.number("alpha"));
        let ratio = |share: f64| (share / (1.0 - share)).ln() - (rho[1] / rho[0]).ln();
        let expected = &self.case["output"]["log_ratio_ci"];
        vec![
            self.compare_within("p_equal", test.p_values(&[counts.to_vec()])[0], 1e-6),
            self.compare_within("log_bf", log_bf, 1e-6),
            ("low".into(), expected[0].as_f64().unwrap(), ratio(low), 1e-4),
            ("high".into(), expected[1].as_f64().unwrap(), ratio(high), 1e-4),
        ]
    }

    fn quantiles(&self) -> Vec<Compared> {
        match self.text("group") {
            "c1" => {
                let half =
                    band(self.number("t"), self.number("t_min"), self.number("A"), self.number("alpha"));
                vec![self.compare("bound", half)]
            }
            "c2" => {
                let (p, t) = (self.number("p"), self.number("t"));
                let (alpha, t_opt) = (self.number("alpha"), self.number("t_opt"));
                let (lo, up) = rank_offsets(p, t, alpha, t_opt);
                vec![
                    self.compare("lo", lo),
                    self.compare("up", up),
                    self.compare("double_stitching_over_t", stitched_offset(p, t, alpha, t_opt)),
                ]
            }
            "c3" => {
                let a = exponential(self.number("n_a"), 1.0, 0.0);
                let b = exponential(self.number("n_b"), self.number("scale_b"), 0.37);
                vec![self.compare(
                    "p_value",
                    equality_p_value(&a, &b, self.number("p"), self.number("t_opt"), 0.05),
                )]
            }
            _ => {
                let (control, treatment) = (self.numbers("counts_C"), self.numbers("counts_T"));
                let (bucket, log_e) = ln_e_not_above(
                    &control,
                    &treatment,
                    self.number("p"),
                    self.number("prior_concentration"),
                )
                .unwrap();
                vec![self.compare("log_e", log_e), self.compare("argmin_bucket", bucket as f64)]
            }
        }
    }

    fn uplift(&self) -> Vec<Compared> {
        let arm = |name: &str| {
            let of = |what: &str| self.number(&format!("{what}_{name}"));
            match self.case["input"]["proportion"] == true {
                true => Arm::of_positives(of("n"), of("sum")),
                false => Arm::of_values(of("n"), of("sum"), of("sumsq")),
            }
        };
        let uplift = match self.case["input"]["difference_type"].as_str() {
            Some("relative") => Uplift::relative(arm("a"), arm("b")),
            _ => Uplift::absolute(arm("a"), arm("b")),
        };
        let (alpha, n_star) = (self.number("alpha"), self.number("n_star"));
        let (lower, upper) = uplift.interval(alpha, n_star);
        vec![
            self.compare("point", uplift.estimate),
            self.compare("var", uplift.variance),
            self.compare("lower", lower),
            self.compare("upper", upper),
            self.compare("p", uplift.p_value(self.number("test_value"), alpha, n_star)),
        ]
    }

    fn group_sequential(&self) -> Vec<Compared> {
        let times = self.numbers("t");
        if self.text("group") == "d2" {
            let alpha = self.number("alpha") / self.number("sides");
            return self.each("z", &bounds(&times, alpha, Spending::Power(self.number("phi"))), 1e-3);
        }
        let alpha = self.number("alpha_one_sided");
        let spending = match self.case["input"]["spending"].as_str() {
            Some("OF") => Spending::OBrienFleming,
            _ => Spending::Pocock,
        };
        let spent: Vec<f64> = times.iter().map(|t| spending.spent(*t, alpha)).collect();
        let mut all = self.each("z", &bounds(&times, alpha, spending), 1e-4);
        all.extend(self.each("cum_alpha", &spent, 1e-4));
        all
    }

    fn sample_ratio(&self) -> Vec<Compared> {
        let mut totals = self.rows("data");
        for row in 1..totals.len() {
            for arm in 0..totals[row].len() {
                totals[row][arm] += totals[row - 1][arm];
            }
        }
        let last = totals.last().unwrap();
        if self.text("group") == "e1" {
            let test = SampleRatio::new(self.numbers("null"), self.number("concentration"));
            let log_bf: Vec<f64> = totals.iter().map(|row| test.ln_bayes_factor(row)).collect();
            let mut all = self.each("p", &test.p_values(&totals), 1e-6);
            all.extend(self.each("log_bf", &log_bf, 1e-6));
            return all;
        }
        let test = SampleRatio::new(self.numbers("theta_0"), self.number("k"));
        let mut all = self.each("p_running", &test.p_values(&totals), 1e-6);
        all.push(self.compare_within("log_odds_final", test.ln_bayes_factor(last), 1e-6));
        for (arm, expected) in self.case["output"]["conf_int_final"].as_array().unwrap().iter().enumerate() {
            let (low, high) = test.interval(last, arm, self.number("alpha"));
            all.push((format!("low {arm}"), expected[0].as_f64().unwrap(), low, 1e-4));
            all.push((format!("high {arm}"), expected[1].as_f64().unwrap(), high, 1e-4));
        }
        all
    }

    fn preference(&self) -> Vec<Compared> {
        if self.text("group") == "f1" {
            let pairs =
                Pairs { wins: self.number("win"), ties: self.number("tie"), losses: self.number("loss") };
            let log_e = pairs.ln_e(self.number("m"), &self.numbers("g_grid"));
            return vec![self.compare("log_e", log_e), self.compare("e", log_e.exp())];
        }
        let decided = self.number("win") + self.number("loss");
        let test = BetaBinomial::tuned(
            self.number("p0"),
            self.number("t_opt"),
            self.number("alpha_opt"),
            Sides::One,
        );
        vec![self.compare("log_e", test.ln_e(self.number("win"), decided))]
    }

    fn detector(&self) -> Vec<Compared> {
        let (m, grid) = (self.number("m"), self.numbers("u_grid"));
        let minutes = self.rows("minutes_n_sum_sumsq");
        let weights = std::array::from_fn(|bet| if bet < grid.len() { 1.0 / grid.len() as f64 } else { 0.0 });
        let ln_factors: Vec<Vec<f64>> = minutes
            .iter()
            .map(|row| {
                let moments = Moments { n: row[0], sum: row[1], squares: row[2] };
                grid.iter().map(|u| moments.ln_factor(m, Null::AtLeast, *u)).collect()
            })
            .collect();
        let steps: Vec<Step<f64>> = ln_factors
            .iter()
            .map(|ln| Some(std::array::from_fn::<f64, BETS, _>(|bet| ln.get(bet).map_or(1.0, |x| x.exp()))))
            .collect();
        let after = |f: &dyn Fn(&[Step<f64>]) -> f64| -> Vec<f64> {
            (1..=steps.len()).map(|t| f(&steps[..t])).collect()
        };
        let window = self.case["input"]["window"].as_u64().map_or(steps.len(), |w| w as usize);
        let mut all = self.each("sr", &after(&|s| shiryaev_roberts(s, &weights)), TIGHT);
        all.extend(self.each("cusum", &after(&|s| cusum(s, &weights)), TIGHT));
        all.extend(self.each(
            "sr_window",
            &after(&|s| shiryaev_roberts(&s[s.len().saturating_sub(window)..], &weights)),
            TIGHT,
        ));
        for (minute, (expected, found)) in
            self.case["output"]["log_e_minute"].as_array().unwrap().iter().zip(&ln_factors).enumerate()
        {
            for (expected, found) in expected.as_array().unwrap().iter().zip(found) {
                all.push((format!("minute {minute}"), expected.as_f64().unwrap(), *found, TIGHT));
            }
        }
        all
    }

    fn gamma_exponential(&self) -> GammaExponential {
        GammaExponential::new(self.number("v_opt"), self.number("c"), self.number("alpha_opt"))
    }

    fn intervals(&self, found: &[(f64, f64)]) -> Vec<Compared> {
        let mut all = self.at_times("lower", |t| found[t - 1].0, TIGHT);
        all.extend(self.at_times("upper", |t| found[t - 1].1, TIGHT));
        all
    }

    /// Compares a list of outputs with what is found after the numbers of samples in `t`.
    fn at_times(&self, name: &str, found: impl Fn(usize) -> f64, tolerance: f64) -> Vec<Compared> {
        let found: Vec<f64> = self.numbers("t").iter().map(|t| found(*t as usize)).collect();
        self.each(name, &found, tolerance)
    }

    fn each(&self, name: &str, found: &[f64], tolerance: f64) -> Vec<Compared> {
        let Some(expected) = self.case["output"][name].as_array() else { return Vec::new() };
        assert_eq!(expected.len(), found.len(), "{} {name}", self.text("id"));
        let pairs = expected.iter().zip(found).enumerate();
        pairs.map(|(i, (e, f))| (format!("{name}[{i}]"), e.as_f64().unwrap(), *f, tolerance)).collect()
    }

    fn compare(&self, name: &str, found: f64) -> Compared {
        self.compare_within(name, found, TIGHT)
    }

    fn compare_within(&self, name: &str, found: f64, tolerance: f64) -> Compared {
        (name.to_owned(), self.case["output"][name].as_f64().unwrap(), found, tolerance)
    }

    fn text(&self, name: &str) -> &str {
        self.case[name].as_str().unwrap()
    }

    fn number(&self, name: &str) -> f64 {
        self.case["input"][name].as_f64().unwrap_or_else(|| panic!("{} has no {name}", self.text("id")))
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        numbers(&self.case["input"][name])
    }

    fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        self.case["input"][name].as_array().unwrap().iter().map(numbers).collect()
    }

    fn stream(&self) -> Vec<f64> {
        numbers(&self.streams[self.case["input"]["stream"].as_str().unwrap()])
    }
}

fn numbers(list: &Value) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn batch(row: &[f64]) -> Batch {
    Batch { n_control: row[0], s_control: row[1], n_treatment: row[2], s_treatment: row[3] }
}

fn moments(scores: &[f64]) -> Moments {
    Moments { n: scores.len() as f64, sum: scores.iter().sum(), squares: scores.iter().map(|x| x * x).sum() }
}

/// The generator that the cases of c3 name: `round(-200 ln(1 - u) scale + .001 i, 3)`, u = frac(i·φ + offset), ascending.
fn exponential(n: f64, scale: f64, offset: f64) -> Vec<f64> {
    let value = |i: usize| {
        let i = i as f64;
        let u = (i * 0.618_033_988_749_894_9 + offset).fract();
        ((-200.0 * (-u).ln_1p() * scale + 0.001 * i) * 1_000.0).round() / 1_000.0
    };
    let mut sample: Vec<f64> = (1..=n as usize).map(value).collect();
    sample.sort_by(f64::total_cmp);
    sample
}
