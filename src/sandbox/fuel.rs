//! What instructions cost in fuel.
//!
//! Fuel counts work, and it is by fuel that a computing guest is brought to look at the clock (`interrupt.rs`). So no
//! instruction may take much longer for each of its units than others do. Most cost one, as wasmtime has it, and what
//! makes no code costs none. A load from memory costs [`LOAD`]: where each needs what the one before it read, and none
//! is in a cache, one takes some hundred times as long as an addition. Stores, calls, and what the engine is called for
//! cost more than one for the same reason.

use wasmparser::Operator;
use wasmtime::OperatorCost;

/// Fuel of a load from memory, and of what reads and writes it at once. Dependent loads over memory that no cache
/// holds take 100 to 500 ns each, as a machine's memory is fast or slow, and as others use it meanwhile, where the same
/// unit of other code takes 0.1 to 3 ns (`cargo bench --bench deadline`).
const LOAD: u8 = 12;
/// Fuel of a reference to a function, which the engine makes when it is first asked for: for one after the other of tens
/// of thousands, some 200 to 400 ns, and up to 1,200 ns of a host that is built with little optimization.
const REFERENCE: u8 = 30;
/// Fuel of each element of a table that is copied to another place, or taken from a segment: it may be one that the engine
/// makes then, in 250 to 900 ns.
const ELEMENT: u8 = 20;
/// Fuel of what else compiled code calls into the host for, such as to copy a byte: some 35 ns, and 200 ns of a host that
/// is built with little optimization.
const CALL: u8 = 10;
/// Fuel of a call that finds out by itself what it calls, and of a look into a table: it loads from there, and goes on in
/// code that may be in no cache. Through 100,000 functions in no order, one takes some 400 ns.
const INDIRECT: u8 = LOAD;
/// Fuel of any other call: through as many functions some 60 ns, and up to 140 ns where much else stands between them.
const DIRECT: u8 = 8;
/// Fuel of a store to memory: to where two pages meet that are in no cache, some 200 ns, and nothing waits for it.
const STORE: u8 = 6;
/// As how many instructions one counts for each unit of its fuel where only a few may come without a look (`looks.rs`),
/// if it takes more than one.
const STEPS: u32 = 2;
/// The most instructions that one counts as there.
pub(super) const MOST_STEPS: u32 = STEPS * LOAD as u32;

/// What each instruction costs.
pub(super) const COSTS: OperatorCost = costs();

/// As how many instructions one counts where no look comes: none, where it makes no code.
pub(super) fn steps(operator: &Operator<'_>) -> u32 {
    if let Operator::Call { .. }
    | Operator::CallIndirect { .. }
    | Operator::ReturnCall { .. }
    | Operator::ReturnCallIndirect { .. } = operator
    {
        // What is called looks where it begins.
        return 1;
    }
    match u32::try_from(COSTS.cost(operator)).unwrap_or(1) {
        fuel @ (0 | 1) => fuel,
        fuel => (STEPS * fuel).min(MOST_STEPS),
    }
}

macro_rules! by_name {
    ($(@$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
        const fn costs() -> OperatorCost {
            let mut costs = OperatorCost::new();
            $(
                let name = stringify!($op).as_bytes();
                if has(name, b"Load") || has(name, b"AtomicRmw") {
                    costs.$op = LOAD;
                } else if has(name, b"Store") {
                    costs.$op = STORE;
                } else if has(name, b"RefFunc") {
                    costs.$op = REFERENCE;
                } else if has(name, b"Grow")
                    || has(name, b"Copy")
                    || has(name, b"Fill")
                    || has(name, b"Init")
                    || has(name, b"DataDrop")
                    || has(name, b"ElemDrop")
                {
                    costs.$op = CALL;
                } else if has(name, b"CallIndirect") || has(name, b"CallRef") || has(name, b"TableGet") {
                    costs.$op = INDIRECT;
                } else if has(name, b"Call") {
                    costs.$op = DIRECT;
                }
            )*
            costs.variable.table_copy_per_element = ELEMENT;
            costs.variable.table_init_per_element = ELEMENT;
            costs
        }
    };
}

wasmparser::for_each_operator!(by_name);

/// Whether a name has this in it.
const fn has(name: &[u8], part: &[u8]) -> bool {
    let mut at = 0;
    while at + part.len() <= name.len() {
        let mut same = 0;
        while same < part.len() && name[at + same] == part[same] {
            same += 1;
        }
        if same == part.len() {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use wasmparser::MemArg;

    use super::*;

    #[test]
    fn loads_cost_more_than_what_computes() {
        let memarg = MemArg {
            align: 0,
            max_align: 0,
            offset: 0,
            memory: 0,
        };
        for load in [
            Operator::I32Load { memarg },
            Operator::I64Load8U { memarg },
            Operator::V128Load32Lane { memarg, lane: 0 },
            Operator::I32AtomicRmwAdd { memarg },
        ] {
            assert_eq!(COSTS.cost(&load), i64::from(LOAD), "{load:?}");
        }
        let reference = Operator::RefFunc { function_index: 0 };
        let call = Operator::Call { function_index: 0 };
        let indirect = Operator::ReturnCallIndirect {
            type_index: 0,
            table_index: 0,
        };
        let get = Operator::TableGet { table: 0 };
        assert_eq!((COSTS.cost(&call), steps(&call)), (i64::from(DIRECT), 1));
        assert_eq!(
            (COSTS.cost(&indirect), steps(&indirect)),
            (i64::from(INDIRECT), 1)
        );
        assert_eq!(
            (COSTS.cost(&get), steps(&get)),
            (i64::from(INDIRECT), MOST_STEPS)
        );
        let copy = Operator::MemoryCopy {
            dst_mem: 0,
            src_mem: 0,
        };
        let fill = Operator::MemoryFill { mem: 0 };
        let dropped = Operator::ElemDrop { elem_index: 0 };
        for called in [copy, fill, dropped] {
            assert_eq!(
                (COSTS.cost(&called), steps(&called)),
                (10, 20),
                "{called:?}"
            );
        }
        assert_eq!(
            (COSTS.cost(&reference), steps(&reference)),
            (30, MOST_STEPS)
        );
        let store = Operator::I32Store { memarg };
        assert_eq!((COSTS.cost(&store), steps(&store)), (6, 12));
        let other = Operator::I32Add;
        assert_eq!((COSTS.cost(&other), steps(&other)), (1, 1));
        assert_eq!((COSTS.cost(&Operator::End), steps(&Operator::End)), (0, 0));
        assert_eq!(steps(&Operator::I32Load { memarg }), MOST_STEPS);
    }
}
