//! How the engines are set up, in a file that needs nothing else of the host: the benchmarks read it, too, so that
//! their floor is set up in the same way.

use wasmparser::WasmFeatures;
use wasmtime::{Config, Enabled, Inlining, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::fuel;

/// What skills may use of WebAssembly: version 2, and of version 3 what is compiled in. The engine takes code with types
/// of garbage collection and typed references also where it is built without them, and ends the process where such code
/// runs.
const FEATURES: WasmFeatures = WasmFeatures::WASM2
    .union(WasmFeatures::EXTENDED_CONST)
    .union(WasmFeatures::MULTI_MEMORY)
    .union(WasmFeatures::RELAXED_SIMD)
    .union(WasmFeatures::TAIL_CALL)
    .union(WasmFeatures::COMPONENT_MODEL);

/// Core instances that a component in the pool may have. A component made by Rust has 3 to 5, one
/// made by componentize-py about 20.
const INSTANCES: u32 = 40;
/// Tables that a component in the pool may have.
const TABLES: u32 = 8;
/// Elements that a table in the pool may have. Those of ComponentizeJS have about 12,000.
pub(super) const TABLE_ELEMENTS: usize = 20_000;
/// Address space for each memory, so that 32-bit addresses need no check in the code. Address
/// space is not memory: a slot costs what the guest has touched.
const RESERVATION: u64 = 4 << 30;
/// How large an image of what a memory begins with may be where less than half of it is data, in bytes. It stands in the
/// compiled code as it is: of more, the data is copied at the start.
pub(super) const DENSE_IMAGE: u64 = 1 << 20;
/// Memory that a guest has written to and that is zeroed for the next one of its slot rather than returned to the
/// kernel. A small skill writes to somewhat more than 32 KiB, and what is returned has every processor that the process
/// runs on forget its addresses: with two of them at work, that took a fourth of all time. For a larger one, which takes
/// longer, more changes nothing that can be measured. And as it stays for good in every slot that ever had a guest that
/// wrote so much, hostile guests would otherwise leave it behind in one slot after the other.
const KEEP_RESIDENT: usize = 64 << 10;
/// Stack of a slot that is zeroed for the next guest. The rest is returned to the kernel, for the same reason.
const STACK_KEEP_RESIDENT: usize = 8 << 10;
/// Slots that are kept warm while they are not in use.
const WARM_SLOTS: u32 = 24;
/// Stack for the host's own functions, on top of the guest's.
const HOST_STACK: usize = 1 << 20;

/// What compiled code depends on, whatever compiles it.
pub(super) fn code() -> Config {
    let mut config = Config::new();
    config
        // By its fuel a guest is stopped, whether that or its time is up: it hands control back every so many units,
        // and the clock is read there. Epochs as well would be paid for twice. What does not come to that is
        // interrupted by a signal, which costs nothing until then (`preempt.rs`).
        .consume_fuel(true)
        .operator_cost(fuel::COSTS)
        .epoch_interruption(false)
        // By its name the guest's own code is told from other code (`preempt/code.rs`), in which nothing but what it
        // does by itself may trap, or is begun that must come to its end.
        .debug_symbols(true)
        .metadata_for_internal_asserts(false)
        .metadata_for_gc_heap_corruption(false)
        // Among others, of these: the limiter counts on no growth failing that it was not asked about, as with
        // 64-bit memories it might; and on memories growing by whole pages.
        .wasm_features(FEATURES.complement(), false)
        // A function begins with a look at the fuel, and code after a call counts as such (`looks.rs`).
        .compiler_inlining(Inlining::No)
        // What a skill says of itself follows from its bytes, whatever the processor fuses.
        .relaxed_simd_deterministic(true)
        .memory_reservation(RESERVATION)
        .memory_guard_size(32 << 20)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(DENSE_IMAGE);
    config
}

/// So many bytes of stack for the guest, and what the host needs beside them.
pub(super) fn stack(config: &mut Config, stack_bytes: usize) {
    config.max_wasm_stack(stack_bytes);
    config.async_stack_size(stack_bytes + HOST_STACK);
}

/// Instances from a pool of so many slots, in place of ones that are made on demand.
pub(super) fn pool(config: &mut Config, slots: u32) {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(INSTANCES))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES))
        .total_stacks(slots)
        .max_core_instances_per_component(INSTANCES)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(RESERVATION as usize)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(TABLE_ELEMENTS * size_of::<usize>())
        .pagemap_scan(Enabled::Auto)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT);
    config.async_stack_zeroing(true);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
}
