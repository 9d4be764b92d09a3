// How an attention call is cut into tiles and tasks, and what a thread's workspace holds.
//
// None of it shows in the bits: a row depends on its own keys alone.

import CSupport
import CSwiftmax

/// Products of a query and a key number, and of a weight and a value, below which a call stays on
/// its thread: about 3 microseconds of one core.
private let parallelThreshold = 1.0 * 0x1p17
/// Below which it does so unless such calls follow one another closely, about 30 microseconds
/// (pool.c).
private let wakingThreshold = 1.0 * 0x1p21

/// What a number of an additive score takes, in fused multiply-adds: 14 cycles a vector, where
/// those are two a cycle.
private let tanhCost: Int64 = 28

/// What a tile takes besides its keys, its queries and results being turned: as much as so many.
private let keysBeside = 24.0

/// The work of a call in fused multiply-adds of float32, masks aside, once its rows are planned.
///
/// Of whole vectors of queries: few of them take less, but the reading of keys is the same (one
/// query, 64 numbers: 20 ns a key, the products of twelve queries; 40 with a mask). With products
/// alone, 8 heads of one query stayed on one thread up to 2000 keys, for 300 microseconds.
private func work(_ job: UnsafePointer<smxk_attention>) -> Double {
  let vector: Int64 = Int(job.pointee.dtype) == SMX_FLOAT64 ? 8 : 16
  let vectors = (job.pointee.rows + vector - 1) / vector
  let lanes = Double(job.pointee.batch) * Double(job.pointee.groups) * Double(16 * vectors)
  let perNumber: Int64 = job.pointee.vector.data == nil ? 1 : tanhCost
  let perKey = Double(job.pointee.head_size * perNumber + job.pointee.value_size)
  let beside = keysBeside * Double(job.pointee.head_size + job.pointee.value_size)
  return lanes * (Double(job.pointee.keys) * perKey + beside)
}

func isSmall(_ job: UnsafePointer<smxk_attention>) -> Bool { isSmall(work: work(job)) }

func isSmall(work: Double) -> Bool { work < wakingThreshold }

func attentionThreads(
  _ job: UnsafePointer<smxk_attention>, _ threads: Int32, _ tasks: Int64
) -> Int32 {
  sharing(work: work(job), threads, tasks)
}

/// How many threads share so much work.
func sharing(work: Double, _ threads: Int32, _ tasks: Int64) -> Int32 {
  work < parallelThreshold ? 1 : Int32(max(1, min(Int64(threads), tasks)))
}

func taskCount(_ job: UnsafePointer<smxk_attention>) -> Int64 {
  let perGroup =
    (job.pointee.tile_count + job.pointee.tiles_per_task - 1) / job.pointee.tiles_per_task
  return job.pointee.batch &* job.pointee.groups &* perGroup
}

/// Shares each tile span by span where tiles are fewer than threads and rows are long.
func splitSpans(_ job: UnsafeMutablePointer<smxk_attention>, isWide: Bool, threads: Int32) {
  let span = Int64(SMXK_KEY_SPAN)
  job.pointee.spans = 1
  guard taskCount(job) < Int64(threads), job.pointee.keys > 2 * span,
    work(job) >= parallelThreshold,
    job.pointee.weights.data == nil,
    // Within these the sums of all spans can be counted in bytes, whatever the number of threads.
    job.pointee.keys <= 1 << 32, job.pointee.value_size <= 1 << 16
  else { return }
  job.pointee.spans = (job.pointee.keys + span - 1) / span
  // What a task leaves for the merge is one tile's.
  job.pointee.tiles_per_task = 1
  let bytes = (3 + job.pointee.value_size) * job.pointee.tile_lanes * (isWide ? 8 : 4)
  job.pointee.partial_bytes = (bytes + 63) / 64 * 64
}

/// Heads that share keys, and whether their queries share tiles: where those of one head are fewer
/// than a tile's lanes.
private func headsTogether(_ job: UnsafePointer<smxk_attention>, lanes: Int64) -> Int64 {
  let perGroup = job.pointee.heads / max(job.pointee.key_heads, 1)
  return job.pointee.queries < lanes ? max(perGroup, 1) : 1
}

/// Queries that use the same keys, one tile after the other.
private func rowsTogether(_ job: UnsafePointer<smxk_attention>, lanes: Int64) -> Int64 {
  headsTogether(job, lanes: lanes) &* job.pointee.queries
}

/// What may multiply whole blocks as bfloat16: for rows of whole AMX tiles, and nothing that
/// changes a score.
func fastUnit(_ job: UnsafePointer<smxk_attention>, lanes: Int64) -> Int32 {
  let j = job.pointee
  // Narrower tiles are those of instruction sets that are forced to be without AVX-512.
  let isPlain =
    lanes == 48 && Int(j.dtype) == SMX_BFLOAT16 && j.head_size > 0 && j.head_size % 32 == 0
    && j.value_size > 0
    && j.value_size % 32 == 0 && j.query.column == 2 && j.key.column == 2 && j.value.column == 2
    && j.mask.data == nil
    && j.bias.data == nil && j.slopes.data == nil && j.softcap == 0 && j.has_segments == 0
    && j.past == 0
    && j.blocks.data == nil && j.weights.data == nil
    && rowsTogether(job, lanes: lanes) > Int64(SMXK_FEW)
  if isPlain && smxk_amx_is_ready() != 0 { return Int32(SMXK_AMX_UNIT) }
  return Int32(isPlain && smxk_dots_are_fast() != 0 ? SMXK_DOT_UNIT : SMXK_EXACT_UNIT)
}

/// Tiles of a task: together they use each block of keys once, from the first cache, while they
/// share the second. For 2048 keys of 128 numbers 1 gives 117 GFLOP/s on a core, 4 120, 8 122.
private let tilesTogether: Int64 = 8
private let tileBytesTogether: Int64 = 1 << 19

/// Chooses tiles and tasks and lays out the workspace.
func planTiles(
  _ job: UnsafeMutablePointer<smxk_attention>, lanes: Int64, isWide: Bool, threads: Int32
) {
  let vector: Int64 = isWide ? 8 : 16
  let isFlat = headsTogether(job, lanes: lanes) > 1
  job.pointee.is_flat = isFlat ? 1 : 0
  job.pointee.rows = rowsTogether(job, lanes: lanes)
  job.pointee.groups = isFlat ? job.pointee.key_heads : job.pointee.heads
  let rows = job.pointee.rows
  let tiles = max(1, (rows + lanes - 1) / lanes)
  job.pointee.tile_count = tiles
  // Tiles of one width, rather than full ones and a narrow rest.
  job.pointee.tile_lanes = max(1, ((rows + tiles - 1) / tiles + vector - 1) / vector) * vector
  let groups = max(1, job.pointee.batch &* job.pointee.groups)
  // Enough tasks that the last ones to end do not leave other threads waiting.
  let wanted = 8 * Int64(threads)
  layOut(job, vector: vector, isWide: isWide, isGradient: false)
  let tileBytes = job.pointee.rooms.tile_bytes
  job.pointee.tiles_per_task = max(
    1, min(tilesTogether, tileBytesTogether / tileBytes, tiles * groups / wanted))
  job.pointee.rooms.bytes = job.pointee.rooms.tiles + tileBytes * job.pointee.tiles_per_task
}

/// The rooms of one tile, and what the tiles of a thread share; `isGradient` where the sums are of
/// the head's size, too, and dO stands where totals do.
func layOut(
  _ job: UnsafeMutablePointer<smxk_attention>, vector: Int64, isWide: Bool, isGradient: Bool
) {
  let size: Int64 = isWide ? 8 : 4
  let lanes = job.pointee.tile_lanes
  let block = Int64(SMXK_KEY_BLOCK)
  let hasMask = job.pointee.mask.data != nil || job.pointee.structure != nil
  let isGathered =
    Int(job.pointee.dtype) < SMX_FLOAT32 || job.pointee.past > 0 || job.pointee.blocks.data != nil
    || job.pointee.key.column != size || job.pointee.value.column != size
  var end: Int64 = 0
  func take(_ bytes: Int64) -> Int64 {
    let start = end
    end += (bytes + 63) / 64 * 64
    return start
  }
  // Squares of a vector's size are turned: whole ones, beyond the last row.
  func rows(_ count: Int64) -> Int64 { (count + vector - 1) / vector * vector }
  var rooms = smxk_rooms()
  rooms.scores = take(block * lanes * size)
  rooms.bias = job.pointee.bias.data != nil ? take(block * lanes * size) : 0
  rooms.shown = hasMask ? take(block * lanes * size) : 0
  rooms.turn = take(block * vector * size)
  let isAdditive = job.pointee.vector.data != nil
  rooms.keys = isGathered && !isAdditive ? take(block * job.pointee.head_size * size) : 0
  rooms.values = isGathered ? take(block * job.pointee.value_size * size) : 0
  if Int(job.pointee.unit) != SMXK_EXACT_UNIT {
    rooms.fast_values = take(block / 2 * job.pointee.value_size * size)
    rooms.fast_weights = take(block / 2 * lanes * size)
    rooms.fast_sums = take(job.pointee.value_size * lanes * size)
  }
  rooms.tiles = end
  end = 0
  _ = take(Int64(MemoryLayout<smxk_tile>.size))
  rooms.query = take(rows(job.pointee.head_size) * lanes * size * (isAdditive ? 2 : 1))
  let isFast = Int(job.pointee.unit) != SMXK_EXACT_UNIT
  rooms.pairs = isFast ? take(job.pointee.head_size / 2 * lanes * size) : 0
  let columns =
    isGradient ? max(job.pointee.head_size, job.pointee.value_size) : job.pointee.value_size
  rooms.sums = take(rows(columns) * lanes * size)
  rooms.totals =
    isGradient || job.pointee.keys > Int64(SMXK_KEY_SPAN)
    ? take(rows(job.pointee.value_size) * lanes * size) : 0
  rooms.few =
    !isGradient && !isWide && job.pointee.rows <= Int64(SMXK_FEW)
    ? take(vector * job.pointee.value_size * size) : 0
  rooms.state = take(Int64(SMXK_STATES) * lanes * size)
  rooms.lanes = take(Int64(SMXK_PLACES) * lanes * 8)
  rooms.tile_bytes = end
  job.pointee.rooms = rooms
}
