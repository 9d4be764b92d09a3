// The operands of an attention call: do they belong together, and how does each lie along batch, heads, rows and
// columns.

import CSupport
import CSwiftmax

struct AttentionTensors {
  let query, key, value, out: Tensor
  var mask, bias, slopes, sinks, pastKey, pastValue, blocks, lse, weights: Tensor?
  let isBLHD: Bool

  init(
    _ query: UnsafePointer<smx_tensor>?, _ key: UnsafePointer<smx_tensor>?, _ value: UnsafePointer<smx_tensor>?,
    _ out: UnsafePointer<smx_tensor>?, _ options: smx_attention_options
  ) throws(Failure) {
    self.query = try Tensor(query, "query")
    self.key = try Tensor(key, "key")
    self.value = try Tensor(value, "value")
    self.out = try Tensor(out, "out")
    mask = try Tensor.optional(options.mask, "mask")
    bias = try Tensor.optional(options.bias, "bias")
    slopes = try Tensor.optional(options.alibi_slopes, "alibi_slopes")
    sinks = try Tensor.optional(options.sinks, "sinks")
    pastKey = try Tensor.optional(options.past_key, "past_key")
    pastValue = try Tensor.optional(options.past_value, "past_value")
    blocks = try Tensor.optional(options.block_table, "block_table")
    lse = try Tensor.optional(options.lse, "lse")
    weights = try Tensor.optional(options.weights, "weights")
    isBLHD = Int(options.layout) == SMX_BLHD
  }

  // -- axes ---------------------------------------------------------------------------------------------

  /// Place of the rows (queries, keys) and of the heads; -1 where there are none.
  private var rowAxis: Int { isBLHD && query.rank > 2 ? query.rank - 3 : query.rank - 2 }
  private var headAxis: Int { query.rank == 2 ? -1 : isBLHD ? query.rank - 2 : query.rank - 3 }
  private var batchAxis: Int { query.rank == 4 ? 0 : -1 }

  private func length(_ tensor: Tensor, _ axis: Int) -> Int64 { axis < 0 ? 1 : tensor.length(axis) }
  var batch: Int64 { length(query, batchAxis) }
  var heads: Int64 { length(query, headAxis) }
  var keyHeads: Int64 { length(key, headAxis) }
  var queries: Int64 { length(query, rowAxis) }
  var past: Int64 { pastKey.map { length($0, rowAxis) } ?? 0 }
  /// Keys of key itself: those of a pool are reached through the table.
  var keys: Int64 {
    blocks.map { $0.length(1) &* length(key, rowAxis) } ?? (past + length(key, rowAxis))
  }
  var headSize: Int64 { length(query, query.rank - 1) }
  var valueSize: Int64 { length(value, value.rank - 1) }

  private func view(_ tensor: Tensor?, isPool: Bool = false) -> smxk_view {
    guard let tensor else { return smxk_view() }
    func stride(_ axis: Int) -> Int64 {
      axis < 0 || tensor.length(axis) == 1 ? 0 : tensor.stride(axis)
    }
    return smxk_view(
      data: data(tensor), batch: isPool ? tensor.stride(0) : stride(batchAxis), head: stride(headAxis),
      row: stride(rowAxis), column: tensor.stride(tensor.rank - 1))
  }

  /// Against the axes of the scores, broadcast.
  private func scoreView(_ tensor: Tensor?) -> smxk_view {
    guard let tensor else { return smxk_view() }
    let rank = query.rank
    func stride(_ axis: Int) -> Int64 { axis < 0 ? 0 : tensor.broadcastStride(axis, rank: rank) }
    return smxk_view(
      data: data(tensor), batch: rank == 4 ? stride(0) : 0, head: stride(rank - 3), row: stride(rank - 2),
      column: stride(rank - 1))
  }

  /// Never NULL for an operand that is there, so that NULL means that it is not.
  private func data(_ tensor: Tensor) -> UnsafeMutablePointer<CChar> {
    tensor.raw.pointee.data?.assumingMemoryBound(to: CChar.self) ?? UnsafeMutablePointer(bitPattern: 64)!
  }

  // -- the job ------------------------------------------------------------------------------------------

  func fill(_ job: UnsafeMutablePointer<smxk_attention>, _ options: smx_attention_options) {
    job.pointee.dtype = query.dtype
    job.pointee.bias_dtype = bias?.dtype ?? query.dtype
    job.pointee.batch = batch
    job.pointee.heads = heads
    job.pointee.key_heads = keyHeads
    job.pointee.queries = queries
    job.pointee.keys = keys
    job.pointee.past = past
    job.pointee.head_size = headSize
    job.pointee.value_size = valueSize
    job.pointee.query = view(query)
    job.pointee.key = view(key, isPool: blocks != nil)
    job.pointee.value = view(value, isPool: blocks != nil)
    job.pointee.past_key = view(pastKey)
    job.pointee.past_value = view(pastValue)
    job.pointee.out = view(out)
    job.pointee.mask = scoreView(mask)
    job.pointee.bias = scoreView(bias)
    job.pointee.weights = scoreView(weights)
    if let lse {
      let rank = lse.rank
      job.pointee.lse = smxk_view(
        data: data(lse), batch: rank == 3 ? lse.stride(0) : 0, head: rank >= 2 ? lse.stride(rank - 2) : 0,
        row: lse.stride(rank - 1), column: 0)
    }
    if let slopes {
      job.pointee.slopes = smxk_view(
        data: data(slopes), batch: slopes.rank == 2 ? slopes.stride(0) : 0, head: slopes.stride(slopes.rank - 1),
        row: 0, column: 0)
    }
    if let sinks { job.pointee.sinks = smxk_view(data: data(sinks), batch: 0, head: sinks.stride(0), row: 0, column: 0) }
    if let blocks {
      job.pointee.blocks = smxk_view(
        data: data(blocks), batch: blocks.stride(0), head: 0, row: 0, column: blocks.stride(1))
      job.pointee.block_size = length(key, rowAxis)
    }
    job.pointee.scale = options.has_scale != 0 ? options.scale : headSize > 0 ? 1 / Double(headSize).squareRoot() : 1
    job.pointee.softcap = options.softcap
    job.pointee.structure = UnsafePointer(options.structure)
    job.pointee.leading = Int64(query.rank - 2)
    var condition = UnsafePointer(options.structure)
    while let c = condition {
      if c.pointee.query_segments != nil { job.pointee.has_segments = 1 }
      if job.pointee.offset == nil { job.pointee.offset = c.pointee.query_offset }
      condition = UnsafePointer(c.pointee.also)
    }
  }

  // -- checks -------------------------------------------------------------------------------------------

  /// Checks all operands against one another; nothing has been written when it fails.
  func check(_ plan: UnsafeMutablePointer<smxk_attention_plan>, _ options: smx_attention_options) throws(Failure) {
    try checkNumbers(options)
    if !isFloat(query.dtype) {
      throw failure(SMX_ERROR_DTYPE) {
        $0.add("query has dtype ")
        $0.add(dtypeName(query.dtype))
        $0.add(", but must have float16, bfloat16, float32 or float64")
      }
    }
    if query.rank < 2 || query.rank > 4 {
      throw failure(SMX_ERROR_SHAPE) {
        $0.add("query must have 2, 3 or 4 axes, but has shape ")
        $0.add(shapeOf: query.raw)
      }
    }
    for tensor in [key, value, out] { try tensor.require(dtype: query.dtype) }
    try checkShapes(plan)
    try checkPast()
    let scores = scoresShape(plan)
    try checkStructure(options.structure, scores)
    try checkTable(options)
    try checkOptional(scores)
    try checkOutputs()
  }

  private func checkNumbers(_ options: smx_attention_options) throws(Failure) {
    if Int(options.layout) != SMX_BHLD && Int(options.layout) != SMX_BLHD {
      throw failure(SMX_ERROR_VALUE, "layout must be SMX_BHLD or SMX_BLHD")
    }
    if Int(options.precision) != SMX_EXACT && Int(options.precision) != SMX_FAST {
      throw failure(SMX_ERROR_VALUE, "precision must be SMX_EXACT or SMX_FAST")
    }
    if options.has_scale != 0 && !options.scale.isFinite {
      throw failure(SMX_ERROR_VALUE, "scale must be a finite number")
    }
    if !(options.softcap >= 0 && options.softcap.isFinite) {
      throw failure(SMX_ERROR_VALUE, "softcap must be 0 (none) or a finite number above 0")
    }
  }

  private func disagree(_ a: Tensor, _ b: Tensor, _ why: StaticString) -> Failure {
    failure(SMX_ERROR_SHAPE) {
      $0.add(a.name)
      $0.add(" of shape ")
      $0.add(shapeOf: a.raw)
      $0.add(why)
      $0.add(b.name)
      $0.add(" of shape ")
      $0.add(shapeOf: b.raw)
    }
  }

  private func checkShapes(_ plan: UnsafeMutablePointer<smxk_attention_plan>) throws(Failure) {
    for tensor in [key, value, out] where tensor.rank != query.rank {
      throw disagree(tensor, query, " must have as many axes as ")
    }
    if length(key, key.rank - 1) != headSize { throw disagree(key, query, " must have the head size of ") }
    try checkPair(key, value)
    if keyHeads == 0 ? heads != 0 : heads % keyHeads != 0 {
      throw disagree(query, key, " must have a multiple of the heads of ")
    }
    if blocks == nil && length(key, batchAxis) != batch && length(key, batchAxis) != 1 {
      throw disagree(key, query, " must have one batch entry or as many as ")
    }
    if length(value, batchAxis) != batch && length(value, batchAxis) != 1 && blocks == nil {
      throw disagree(value, query, " must have one batch entry or as many as ")
    }
    try requireShape(out, plan, [batch, heads, queries, valueSize])
  }

  /// Checks an output of the query's axes against lengths in the order batch, heads, rows, columns.
  private func requireShape(
    _ out: Tensor, _ plan: UnsafeMutablePointer<smxk_attention_plan>, _ lengths: InlineArray<4, Int64>
  ) throws(Failure) {
    let shape = smxk_shape_of(plan)
    for axis in 0..<out.rank {
      shape[axis] = lengths[axis == batchAxis ? 0 : axis == headAxis ? 1 : axis == rowAxis ? 2 : 3]
    }
    var fits = true
    for axis in 0..<out.rank { fits = fits && out.length(axis) == shape[axis] }
    if fits { return }
    throw failure(SMX_ERROR_SHAPE) {
      $0.add(out.name)
      $0.add(" of shape ")
      $0.add(shapeOf: out.raw)
      $0.add(" must have shape ")
      $0.add(shape: shape, out.rank)
    }
  }

  /// Keys and their values.
  private func checkPair(_ key: Tensor, _ value: Tensor) throws(Failure) {
    var fits = key.rank == value.rank
    if fits {
      for axis in 0..<(key.rank - 1) where axis != batchAxis || blocks != nil {
        fits = fits && key.length(axis) == value.length(axis)
      }
    }
    if !fits { throw disagree(value, key, " must have the heads and keys of ") }
  }

  private func checkPast() throws(Failure) {
    if (pastKey == nil) != (pastValue == nil) {
      throw failure(SMX_ERROR_VALUE, "past_key and past_value must be given together")
    }
    guard let pastKey, let pastValue else { return }
    if blocks != nil { throw failure(SMX_ERROR_VALUE, "block_table and past_key cannot be given together") }
    for (past, own) in [(pastKey, key), (pastValue, value)] {
      try past.require(dtype: query.dtype)
      var fits = past.rank == own.rank
      if fits {
        for axis in 0..<own.rank where axis != rowAxis {
          let length = axis == batchAxis ? batch : own.length(axis)
          fits = fits && (past.length(axis) == length || axis == batchAxis && past.length(axis) == 1)
        }
      }
      if !fits { throw disagree(past, own, " must agree but in the number of keys with ") }
    }
    try checkPair(pastKey, pastValue)
  }

  private func scoresShape(_ plan: UnsafeMutablePointer<smxk_attention_plan>) -> Tensor {
    let shape = smxk_shape_of(plan)
    let lengths: InlineArray<4, Int64> = [batch, heads, queries, keys]
    for axis in 0..<query.rank { shape[axis] = lengths[axis + 4 - query.rank] }
    let scores = smxk_scores_of(plan)
    scores.pointee = smx_tensor(
      data: nil, dtype: query.dtype, ndim: Int32(query.rank), shape: UnsafePointer(shape), strides: nil)
    return Tensor(shapeOnly: scores, "the scores")
  }

  private func checkTable(_ options: smx_attention_options) throws(Failure) {
    guard let blocks else { return }
    try blocks.require(dtype: smx_dtype(SMX_INT32))
    if query.rank != 4 || blocks.rank != 2 || blocks.length(0) != batch {
      throw disagree(blocks, query, " must be (B, N) for the batch of ")
    }
    let pool = key.length(0)
    let size = length(key, rowAxis)
    for entry in 0..<batch {
      let seen = longestRow(options.structure, entry)
      for n in 0..<blocks.length(1) where seen > n &* size {
        let p = UnsafeRawPointer(blocks.raw.pointee.data!) + Int(entry &* blocks.stride(0) + n &* blocks.stride(1))
        let block = Int64(p.loadUnaligned(as: Int32.self))
        if block < 0 || block >= pool {
          throw failure(SMX_ERROR_VALUE) {
            $0.add("block_table holds ")
            $0.add(block)
            $0.add(", but key has ")
            $0.add(pool)
            $0.add(" blocks")
          }
        }
      }
    }
  }

  /// The most keys that a head of a batch entry sees, from the key lengths.
  private func longestRow(_ structure: UnsafePointer<smx_mask>?, _ entry: Int64) -> Int64 {
    var most: Int64 = 0
    for head in 0..<max(heads, 1) {
      var seen = keys
      var condition = structure
      while let c = condition {
        if let lengths = c.pointee.key_lengths {
          let index: InlineArray<2, Int64> = [entry, head]
          var p = UnsafeRawPointer(lengths.pointee.data!)
          for axis in 0..<Int(lengths.pointee.ndim) { p += Int(index[axis] &* lengths.pointee.strides[axis]) }
          seen = min(
            seen, Int(lengths.pointee.dtype) == SMX_INT32
              ? Int64(p.loadUnaligned(as: Int32.self)) : p.loadUnaligned(as: Int64.self))
        }
        condition = UnsafePointer(c.pointee.also)
      }
      most = max(most, seen)
    }
    return most
  }

  private func checkOptional(_ scores: Tensor) throws(Failure) {
    let isWide = Int(query.dtype) == SMX_FLOAT64
    let single = smx_dtype(isWide ? SMX_FLOAT64 : SMX_FLOAT32)
    if let mask {
      try mask.require(dtype: smx_dtype(SMX_BOOL))
      try mask.requireBroadcast(to: scores)
    }
    if let bias {
      if !(Int(query.dtype) < SMX_FLOAT32 && Int(bias.dtype) == SMX_FLOAT32) { try bias.require(dtype: query.dtype) }
      try bias.requireBroadcast(to: scores)
    }
    if let slopes {
      try slopes.require(dtype: single)
      let fits = slopes.rank >= 1 && slopes.rank <= 2 && slopes.length(slopes.rank - 1) == heads
        && (slopes.rank == 1 || query.rank == 4 && slopes.length(0) == batch)
      if !fits { throw disagree(slopes, query, " must be (Hq) or (B, Hq) for ") }
    }
    if let sinks {
      try sinks.require(dtype: single)
      if sinks.rank != 1 || sinks.length(0) != heads { throw disagree(sinks, query, " must be (Hq) for ") }
    }
    if let lse {
      try lse.require(dtype: single)
      var fits = lse.rank == scores.rank - 1
      if fits { for axis in 0..<lse.rank { fits = fits && lse.length(axis) == scores.length(axis) } }
      if !fits { throw disagree(lse, scores, " must have the axes but the last of ") }
    }
    if let weights {
      try weights.require(dtype: query.dtype)
      var fits = weights.rank == scores.rank
      if fits { for axis in 0..<weights.rank { fits = fits && weights.length(axis) == scores.length(axis) } }
      if !fits { throw disagree(weights, scores, " must have the shape of ") }
    }
  }

  private func checkOutputs() throws(Failure) {
    let inputs: [Tensor?] = [query, key, value, mask, bias, slopes, sinks, pastKey, pastValue, blocks]
    for output in [out, lse, weights] {
      guard let output else { continue }
      try output.requireOwnPlaces()
      for input in inputs { try output.requireDistinct(from: input, orSame: false) }
    }
    try lse?.requireDistinct(from: out, orSame: false)
    try weights?.requireDistinct(from: out, orSame: false)
    try weights?.requireDistinct(from: lse, orSame: false)
  }
}
