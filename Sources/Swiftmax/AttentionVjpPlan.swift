// How the gradient of an attention call is cut into tasks, and what a thread's workspace holds.
//
// None of it shows in the bits (Kernels/AttentionVjp.swift).

import CSupport
import CSwiftmax

/// What of five products each of the two ways costs: one task for all three gradients of a key
/// head, or some for those of the queries and some for those of keys and values, scores and dO·Vᵀ
/// computed twice.
private let productsTogether: Int64 = 5
private let productsApart: Int64 = 7

/// Keys below which a task spends more on turning queries than on products.
private let leastKeys: Int64 = 256

/// What a group of blocks of queries may take of the second-level cache.
private let groupBytes: Int64 = 1 << 20

/// Chooses tiles, lays out the workspace and decides between the two ways; returns whether the
/// first one is taken.
func planGradient(
  _ job: UnsafeMutablePointer<smxk_attention_vjp>, lanes: Int64, isWide: Bool, threads: Int32
) -> Bool {
  let vector: Int64 = isWide ? 8 : 16
  let queryBlock = Int64(SMXK_QUERY_BLOCK)
  let queries = job.pointee.forward.queries
  let tileLanes = max(vector, min(lanes, (queries + vector - 1) / vector * vector))
  job.pointee.forward.is_flat = 0
  job.pointee.forward.rows = queries
  job.pointee.forward.groups = job.pointee.forward.heads
  job.pointee.forward.tile_lanes = tileLanes
  job.pointee.forward.tiles_per_task = 1
  job.pointee.forward.spans = 1
  withUnsafeMutablePointer(to: &job.pointee.forward) {
    layOut($0, vector: vector, isWide: isWide, isGradient: true)
  }

  let keys = job.pointee.forward.keys
  let isShared = job.pointee.shares_keys != 0 || job.pointee.shares_values != 0
  let entries = (isShared ? 1 : job.pointee.forward.batch) * job.pointee.forward.key_heads
  let wantsKeys = job.pointee.d_key.data != nil || job.pointee.d_value.data != nil
  let rounds = (entries + Int64(threads) - 1) / Int64(threads)
  let isTogether =
    wantsKeys && job.pointee.d_query.data != nil
    && rounds * Int64(threads) * productsTogether <= entries * productsApart
  job.pointee.query_tasks = (queries + queryBlock - 1) / queryBlock
  job.pointee.keys_per_task = max(keys, 1)
  if !isTogether && entries > 0 {
    let pieces = (8 * Int64(threads) + entries - 1) / entries
    let block = Int64(SMXK_KEY_BLOCK)
    job.pointee.keys_per_task = max(
      leastKeys, ((keys + pieces - 1) / pieces + block - 1) / block * block)
  }
  job.pointee.key_tasks = max(1, (keys + job.pointee.keys_per_task - 1) / job.pointee.keys_per_task)
  job.pointee.bias_tasks =
    job.pointee.d_bias.column == 0
    ? 1 : max(1, (keys + Int64(SMXK_KEY_BLOCK) - 1) / Int64(SMXK_KEY_BLOCK))
  layOutGradient(job, vector: vector, isWide: isWide)
  return isTogether
}

private func layOutGradient(
  _ job: UnsafeMutablePointer<smxk_attention_vjp>, vector: Int64, isWide: Bool
) {
  let forward = job.pointee.forward
  let size: Int64 = isWide ? 8 : 4
  let block = Int64(SMXK_KEY_BLOCK)
  let queryBlock = Int64(SMXK_QUERY_BLOCK)
  job.pointee.tiles_per_block =
    (min(queryBlock, max(forward.queries, 1)) + forward.tile_lanes - 1) / forward.tile_lanes
  // Tiles, and as much again for panels.
  let most = groupBytes / (2 * forward.rooms.tile_bytes * job.pointee.tiles_per_block)
  job.pointee.blocks_per_group = max(1, min(Int64(SMXK_QUERY_GROUP), most, job.pointee.query_tasks))
  func whole(_ columns: Int64) -> Int64 { (columns + vector - 1) / vector * vector }
  /// Whether sums of whole vectors can be made where the gradient stands.
  func isDirect(_ view: smxk_view, _ columns: Int64) -> Bool {
    Int(forward.dtype) >= SMX_FLOAT32 && columns % vector == 0 && view.column == size
      && view.row % size == 0
  }
  job.pointee.is_key_direct = isDirect(job.pointee.d_key, forward.head_size) ? 1 : 0
  job.pointee.is_value_direct = isDirect(job.pointee.d_value, forward.value_size) ? 1 : 0
  job.pointee.key_pitch =
    job.pointee.is_key_direct != 0 ? job.pointee.d_key.row / size : whole(forward.head_size)
  job.pointee.value_pitch =
    job.pointee.is_value_direct != 0 ? job.pointee.d_value.row / size : whole(forward.value_size)
  var end =
    forward.rooms.tiles + forward.rooms.tile_bytes * job.pointee.tiles_per_block
    * job.pointee.blocks_per_group
  func take(_ numbers: Int64) -> Int64 {
    let start = end
    end += (numbers * size + 63) / 64 * 64
    return start
  }
  func sums(_ view: smxk_view, _ isDirect: Int32, _ pitch: Int64) -> Int64 {
    view.data != nil && isDirect == 0 ? take(job.pointee.keys_per_task * pitch) : 0
  }
  var rooms = smxk_vjp_rooms()
  rooms.weights = take(block * queryBlock)
  rooms.gradients = take(block * queryBlock)
  rooms.slopes = forward.softcap > 0 ? take(block * forward.tile_lanes) : 0
  rooms.query_bytes = queryBlock * whole(forward.head_size) * size
  rooms.d_out_bytes = queryBlock * whole(forward.value_size) * size
  rooms.queries = take(rooms.query_bytes / size * job.pointee.blocks_per_group)
  rooms.d_out = take(rooms.d_out_bytes / size * job.pointee.blocks_per_group)
  rooms.keys = sums(job.pointee.d_key, job.pointee.is_key_direct, job.pointee.key_pitch)
  rooms.values = sums(job.pointee.d_value, job.pointee.is_value_direct, job.pointee.value_pitch)
  rooms.bytes = end
  job.pointee.rooms = rooms
}
