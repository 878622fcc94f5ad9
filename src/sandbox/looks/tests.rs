//! How far code goes without a look.

use proptest::prelude::*;

use super::*;

/// How many looks are put into a module or component, which is as valid as before.
fn looks(text: &str) -> usize {
    let before = wat::parse_str(text).unwrap();
    let after = put_into(&before).unwrap();
    wasmparser::Validator::new().validate_all(&after).unwrap();
    // Sizes take a byte more here and there.
    let more = after.len() - before.len();
    let looks = after.windows(3).filter(|bytes| *bytes == LOOK).count();
    assert!(
        (looks * 3..=looks * 3 + 8).contains(&more),
        "{looks} {more}"
    );
    looks
}

fn body(code: &str) -> usize {
    looks(&format!(
        "(module (memory 1) (func $f) (func (param i32) (local i32) {code}))"
    ))
}

fn sets(count: usize) -> String {
    // Two instructions.
    "(local.set 1 (local.get 0))".repeat(count / 2)
}

#[test]
fn long_code_is_looked_at_and_short_code_is_not() {
    assert_eq!(body(&sets(1_970)), 0);
    assert_eq!(body(&sets(2_002)), 1);
    assert_eq!(body(&sets(50_000)), 25);
    // A loop looks by itself.
    assert_eq!(body(&format!("{} (loop {})", sets(1_600), sets(1_600))), 0);
    assert_eq!(body(&format!("(loop {}) {}", sets(1_600), sets(1_600))), 1);
}

#[test]
fn what_comes_after_a_call_is_looked_at_soon() {
    let after = |count| body(&format!("(call $f) {}", sets(count)));
    assert_eq!((after(38), after(44)), (0, 1));
    // Not before another call: that one looks.
    assert_eq!(body(&"(call $f)".repeat(10)), 0);
    assert_eq!(body(&"(call $f)".repeat(100)), 2);
}

/// A place for a look that every way jumps over.
#[test]
fn no_way_leads_past_all_looks() {
    let jumps = |count: usize| {
        format!(
            "(block {} (br_if 0 (local.get 0)) {})",
            sets(1_920),
            sets(160)
        )
        .repeat(count)
    };
    // One inside for those who do not jump, and one behind it for those who do.
    assert_eq!(body(&jumps(1)), 1);
    assert_eq!(body(&jumps(10)), 16);
    let branches = format!("(if (local.get 0) (then {0}) (else {0}))", sets(1_200));
    assert_eq!(body(&branches), 0);
    assert_eq!(body(&branches.repeat(2)), 2);
    let table = format!(
        "(block (block (block {} (br_table 0 1 2 (local.get 0))) {}) {})",
        sets(1_200),
        sets(1_200),
        sets(1_200)
    );
    assert_eq!(body(&table), 2);
}

/// Code that nobody comes to is no way; what comes behind its end is.
#[test]
fn code_that_nobody_comes_to_is_left_alone() {
    assert_eq!(body(&format!("(return) {}", sets(2_400))), 0);
    let ends = format!(
        "(block (br_if 0 (local.get 0)) {} unreachable) {}",
        sets(1_200),
        sets(1_200)
    );
    assert_eq!(body(&ends), 0);
    assert_eq!(
        body(&format!("(block {} (br 0)) {}", sets(1_200), sets(1_200))),
        1
    );
}

#[test]
fn modules_within_components_are_found() {
    let module = format!(
        "(core module (func (param i32) (local i32) {}))",
        sets(8_000)
    );
    assert_eq!(looks(&format!("(component {module} {module})")), 8);
    assert_eq!(
        looks(&format!("(component (component {module}) {module})")),
        8
    );
    let mut deep = wat::parse_str(format!("(component {module})")).unwrap();
    for _ in 0..=MAX_DEPTH {
        let mut around = wat::parse_str("(component)").unwrap();
        around.push(COMPONENT);
        sized(&deep, &mut around);
        deep = around;
    }
    assert!(matches!(put_into(&deep), Err(Unread::TooDeep)));
}

#[test]
fn what_is_not_valid_is_an_error() {
    let module = wat::parse_str("(module (func (local.set 0 (i32.const 1))))").unwrap();
    // It is not looked whether locals are there: whoever compiles it does.
    assert!(put_into(&module).is_ok());
    for end in 0..module.len() {
        let cut = put_into(&module[..end]);
        assert!(
            cut.is_err() || end == 8 || cut.unwrap() == module[..end],
            "{end}"
        );
    }
    assert!(put_into(b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\x0f").is_err());
}

/// A piece of code, with what branches within it lead to: as many blocks out as there are, or fewer.
#[derive(Debug, Clone)]
enum Piece {
    Steps(usize),
    Loads(usize),
    Call,
    BranchIf(u32),
    Branch(u32),
    Table(u32, u32),
    Block(Vec<Piece>),
    Loop(Vec<Piece>),
    If(Vec<Piece>, Vec<Piece>),
}

impl Piece {
    fn text(&self, depth: u32) -> String {
        let within = |pieces: &[Piece]| text_of(pieces, depth + 1);
        // The outermost label is the function's own.
        let label = |label: &u32| label % (depth + 1);
        match self {
            Piece::Steps(count) => sets(*count),
            Piece::Loads(count) => "(local.set 1 (i32.load (local.get 0)))".repeat(*count),
            Piece::Call => "(call $f)".to_owned(),
            Piece::BranchIf(to) => format!("(br_if {} (local.get 0))", label(to)),
            Piece::Branch(to) => format!("(br {})", label(to)),
            Piece::Table(one, other) => {
                format!("(br_table {} {} (local.get 0))", label(one), label(other))
            }
            Piece::Block(pieces) => format!("(block {})", within(pieces)),
            Piece::Loop(pieces) => format!("(loop {})", within(pieces)),
            Piece::If(then, otherwise) => {
                let (then, otherwise) = (within(then), within(otherwise));
                format!("(if (local.get 0) (then {then}) (else {otherwise}))")
            }
        }
    }
}

fn text_of(pieces: &[Piece], depth: u32) -> String {
    pieces.iter().map(|piece| piece.text(depth)).collect()
}

fn pieces() -> impl Strategy<Value = Vec<Piece>> {
    let piece = prop_oneof![
        3 => (0..1_500_usize).prop_map(Piece::Steps),
        2 => (0..100_usize).prop_map(Piece::Loads),
        1 => Just(Piece::Call),
        1 => any::<u32>().prop_map(Piece::BranchIf),
        1 => any::<u32>().prop_map(Piece::Branch),
        1 => any::<(u32, u32)>().prop_map(|(one, other)| Piece::Table(one, other)),
    ];
    let piece = piece.prop_recursive(6, 60, 5, |piece| {
        let pieces = || prop::collection::vec(piece.clone(), 0..5);
        prop_oneof![
            pieces().prop_map(Piece::Block),
            pieces().prop_map(Piece::Loop),
            (pieces(), pieces()).prop_map(|(then, otherwise)| Piece::If(then, otherwise)),
        ]
    });
    prop::collection::vec(piece, 1..8)
}

/// Where each block of a function ends, and the `else` of those that have one.
fn blocks(code: &[Operator<'_>]) -> (Vec<usize>, Vec<Option<usize>>) {
    let (mut ends, mut elses) = (vec![code.len(); code.len()], vec![None; code.len()]);
    let mut open = Vec::new();
    for (at, operator) in code.iter().enumerate() {
        match operator {
            Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. } => {
                open.push(at);
            }
            Operator::Else => elses[*open.last().unwrap()] = Some(at),
            Operator::End => {
                if let Some(begun) = open.pop() {
                    ends[begun] = at;
                }
            }
            _ => {}
        }
    }
    (ends, elses)
}

/// The most instructions that come without a look, at all and after a call, on one way through a function.
fn walk(code: &[Operator<'_>], mut choose: impl FnMut(usize) -> usize) -> (u32, u32) {
    let (ends, elses) = blocks(code);
    let (mut worst, mut worst_after_call) = (0, 0);
    let (mut since, mut since_call) = (0, None);
    let mut open: Vec<usize> = Vec::new();
    let mut at = 0;
    for _ in 0..20_000 {
        let Some(operator) = code.get(at) else { break };
        since += steps(operator);
        since_call = since_call.map(|since| since + steps(operator));
        worst = worst.max(since);
        worst_after_call = worst_after_call.max(since_call.unwrap_or(0));
        let taken = match operator {
            Operator::Br { relative_depth } => Some(*relative_depth),
            Operator::BrIf { relative_depth } if choose(2) == 0 => Some(*relative_depth),
            Operator::BrTable { targets } => {
                let default = targets.default();
                let mut targets: Vec<_> = targets.targets().map(Result::unwrap).collect();
                targets.push(default);
                Some(targets[choose(targets.len())])
            }
            _ => None,
        };
        if let Some(depth) = taken {
            let Some(left) = open.len().checked_sub(depth as usize + 1) else {
                break;
            };
            at = open[left];
            open.truncate(left);
            if !matches!(code[at], Operator::Loop { .. }) {
                at = ends[at] + 1;
                continue;
            }
            // The turn begins with its look.
        }
        match &code[at] {
            Operator::Loop { .. } => {
                open.push(at);
                (since, since_call) = (0, None);
            }
            Operator::Block { .. } => open.push(at),
            Operator::If { .. } => match (choose(2) == 0, elses[at]) {
                (false, Some(otherwise)) => {
                    open.push(at);
                    at = otherwise;
                }
                (false, None) => at = ends[at],
                (true, _) => open.push(at),
            },
            Operator::Else => {
                let begun = open.pop().unwrap();
                at = ends[begun];
            }
            Operator::End => {
                open.pop();
            }
            Operator::Call { .. } => since_call = Some(0),
            _ => {}
        }
        at += 1;
    }
    (worst, worst_after_call)
}

proptest! {
    /// Code of any shape, and any ways through it.
    #[test]
    fn no_way_is_longer_than_it_may_be(
        pieces in pieces(),
        ways in prop::collection::vec(prop::collection::vec(any::<usize>(), 1..60), 20),
    ) {
        let code = text_of(&pieces, 0);
        let text = format!("(module (memory 1) (func $f) (func (param i32) (local i32) {code}))");
        let after = put_into(&wat::parse_str(text).unwrap()).unwrap();
        wasmparser::Validator::new().validate_all(&after).unwrap();
        let mut code = Vec::new();
        for payload in wasmparser::Parser::new(0).parse_all(&after) {
            if let wasmparser::Payload::CodeSectionEntry(function) = payload.unwrap() {
                let function = function.get_operators_reader().unwrap();
                code = function.into_iter().collect::<Result<Vec<_>, _>>().unwrap();
            }
        }
        for way in ways {
            let mut choices = way.into_iter().cycle();
            let (worst, worst_after_call) = walk(&code, |of| choices.next().unwrap() % of);
            prop_assert!(worst <= STRAIGHT, "{worst}");
            prop_assert!(worst_after_call <= AFTER_A_CALL, "{worst_after_call}");
        }
    }
}
