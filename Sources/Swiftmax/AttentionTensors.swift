// The operands of an attention call: do they belong together, and how does each lie along batch,
// heads, rows and columns.

import CSupport
import CSwiftmax

struct AttentionTensors {
  let query, key, value, out: Tensor
  var mask, bias, slopes, sinks, pastKey, pastValue, blocks, queryStarts, keyStarts, lse,
    weights: Tensor?
  let isBLHD: Bool
  /// Whether queries and keys meet as they are, so that they must be of one size.
  let isDirect: Bool

  init(
    _ query: UnsafePointer<smx_tensor>?, _ key: UnsafePointer<smx_tensor>?,
    _ value: UnsafePointer<smx_tensor>?,
    _ out: UnsafePointer<smx_tensor>?, _ options: smx_attention_options, isDirect: Bool = true
  ) throws(Failure) {
    self.isDirect = isDirect
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
    queryStarts = try Tensor.optional(options.query_starts, "query_starts")
    keyStarts = try Tensor.optional(options.key_starts, "key_starts")
    lse = try Tensor.optional(options.lse, "lse")
    weights = try Tensor.optional(options.weights, "weights")
    isBLHD = Int(options.layout) == SMX_BLHD
  }

  // -- axes ---------------------------------------------------------------------------------------

  /// Place of the rows (queries, keys) and of the heads; -1 where there are none.
  var rowAxis: Int { isBLHD && query.rank > 2 ? query.rank - 3 : query.rank - 2 }
  var headAxis: Int { query.rank == 2 ? -1 : isBLHD ? query.rank - 2 : query.rank - 3 }
  var batchAxis: Int { query.rank == 4 ? 0 : -1 }

  func length(_ tensor: Tensor, _ axis: Int) -> Int64 { axis < 0 ? 1 : tensor.length(axis) }
  var isPacked: Bool { queryStarts != nil }
  var batch: Int64 { queryStarts.map { max($0.count - 1, 0) } ?? length(query, batchAxis) }
  var heads: Int64 { length(query, headAxis) }
  var keyHeads: Int64 { length(key, headAxis) }
  /// Of packed entries the longest.
  var queries: Int64 { queryStarts.map(longest) ?? length(query, rowAxis) }
  var past: Int64 { pastKey.map { length($0, rowAxis) } ?? 0 }
  var keys: Int64 {
    keyStarts.map(longest) ?? blocks.map { $0.length(1) &* length(key, rowAxis) }
      ?? (past + length(key, rowAxis))
  }
  var headSize: Int64 { length(query, query.rank - 1) }
  var valueSize: Int64 { length(value, value.rank - 1) }

  func view(_ tensor: Tensor?, isPool: Bool = false) -> smxk_view {
    guard let tensor else { return smxk_view() }
    func stride(_ axis: Int) -> Int64 {
      axis < 0 || tensor.length(axis) == 1 ? 0 : tensor.stride(axis)
    }
    return smxk_view(
      data: data(tensor), batch: isPool ? tensor.stride(0) : stride(batchAxis),
      head: stride(headAxis),
      row: stride(rowAxis), column: tensor.stride(tensor.rank - 1))
  }

  /// Against the axes of the scores, broadcast.
  func scoreView(_ tensor: Tensor?) -> smxk_view {
    guard let tensor else { return smxk_view() }
    let rank = query.rank
    func stride(_ axis: Int) -> Int64 { axis < 0 ? 0 : tensor.broadcastStride(axis, rank: rank) }
    return smxk_view(
      data: data(tensor), batch: rank == 4 ? stride(0) : 0, head: stride(rank - 3),
      row: stride(rank - 2),
      column: stride(rank - 1))
  }

  /// Never NULL for an operand that is there, so that NULL means that it is not.
  func data(_ tensor: Tensor) -> UnsafeMutablePointer<CChar> {
    tensor.raw.pointee.data?.assumingMemoryBound(to: CChar.self) ?? UnsafeMutablePointer(
      bitPattern: 64)!
  }

  // -- the job ------------------------------------------------------------------------------------

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
    if let queryStarts, let keyStarts {
      job.pointee.query_starts = smxk_view(
        data: data(queryStarts), batch: 0, head: 0, row: 0, column: queryStarts.stride(0))
      job.pointee.key_starts = smxk_view(
        data: data(keyStarts), batch: 0, head: 0, row: 0, column: keyStarts.stride(0))
      job.pointee.query_starts_dtype = queryStarts.dtype
      job.pointee.key_starts_dtype = keyStarts.dtype
    }
    if let lse {
      let rank = lse.rank
      job.pointee.lse = smxk_view(
        data: data(lse), batch: rank == 3 ? lse.stride(0) : 0,
        head: rank >= 2 ? lse.stride(rank - 2) : 0,
        row: lse.stride(rank - 1), column: 0)
    }
    if let slopes {
      job.pointee.slopes = smxk_view(
        data: data(slopes), batch: slopes.rank == 2 ? slopes.stride(0) : 0,
        head: slopes.stride(slopes.rank - 1),
        row: 0, column: 0)
    }
    if let sinks {
      job.pointee.sinks = smxk_view(
        data: data(sinks), batch: 0, head: sinks.stride(0), row: 0, column: 0)
    }
    if let blocks {
      job.pointee.blocks_dtype = blocks.dtype
      job.pointee.blocks = smxk_view(
        data: data(blocks), batch: blocks.stride(0), head: 0, row: 0, column: blocks.stride(1))
      job.pointee.block_size = length(key, rowAxis)
    }
    job.pointee.scale =
      options.has_scale != 0 ? options.scale : headSize > 0 ? 1 / Double(headSize).squareRoot() : 1
    job.pointee.softcap = options.softcap
    job.pointee.structure = UnsafePointer(options.structure)
    job.pointee.leading = isPacked ? 2 : Int64(query.rank - 2)
    var condition = UnsafePointer(options.structure)
    while let c = condition {
      if c.pointee.query_segments != nil { job.pointee.has_segments = 1 }
      if job.pointee.offset == nil { job.pointee.offset = c.pointee.query_offset }
      condition = UnsafePointer(c.pointee.also)
    }
  }

  // -- checks -------------------------------------------------------------------------------------

  /// Checks all operands against one another; nothing has been written when it fails.
  func check(
    _ plan: UnsafeMutablePointer<smxk_attention_plan>, _ options: smx_attention_options
  ) throws(Failure) {
    try checkNumbers(options)
    try query.requireFloats()
    if query.rank < 2 || query.rank > 4 {
      throw failure(SMX_ERROR_SHAPE) {
        $0.add("query must have 2, 3 or 4 axes, but has shape ")
        $0.add(shapeOf: query.raw)
      }
    }
    try key.require(dtype: query.dtype)
    try value.require(dtype: query.dtype)
    try out.require(dtype: query.dtype)
    try checkStarts()
    try checkTableShape()
    try checkShapes(plan)
    try checkPast()
    try checkCount()
    let scores = scoresShape(plan)
    try checkStructure(options.structure, scores)
    try checkTable(options)
    try checkOptional(scores)
  }

  private func checkNumbers(_ options: smx_attention_options) throws(Failure) {
    if Int(options.layout) != SMX_BHLD && Int(options.layout) != SMX_BLHD {
      throw failure(
        SMX_ERROR_VALUE, "layout must be SMX_BHLD (0) or SMX_BLHD (1)", got: options.layout)
    }
    if Int(options.precision) != SMX_EXACT && Int(options.precision) != SMX_FAST {
      throw failure(
        SMX_ERROR_VALUE, "precision must be SMX_EXACT (0) or SMX_FAST (1)", got: options.precision)
    }
    if options.has_scale != 0 && !options.scale.isFinite {
      throw failure(SMX_ERROR_VALUE, "scale must be a finite number", got: options.scale)
    }
    if !(options.softcap >= 0 && options.softcap.isFinite) {
      throw failure(
        SMX_ERROR_VALUE, "softcap must be 0 (none) or a finite number above 0", got: options.softcap
      )
    }
    // Of all dtypes but float64 the scores are float32.
    if Int(query.dtype) == SMX_FLOAT64 { return }
    if options.has_scale != 0 && !Float(options.scale).isFinite {
      throw failure(
        SMX_ERROR_VALUE, "scale must be a number that float32, the scores of this dtype, can hold",
        got: options.scale)
    }
    if options.softcap != 0 && !Float(options.softcap).isNormal {
      throw failure(
        SMX_ERROR_VALUE,
        "softcap must be 0 (none) or a normal number of float32, the scores of this dtype",
        got: options.softcap)
    }
  }

  private func checkShapes(_ plan: UnsafeMutablePointer<smxk_attention_plan>) throws(Failure) {
    let others: InlineArray<3, Tensor> = [key, value, out]
    for i in 0..<3 where others[i].rank != query.rank {
      throw disagree(others[i], query, " must have as many axes as ")
    }
    try checkSizes()
    if isDirect && length(key, key.rank - 1) != headSize {
      throw disagree(key, query, " must have the head size of ")
    }
    try checkPair(key, value)
    if keyHeads == 0 ? heads != 0 : heads % keyHeads != 0 {
      throw disagree(query, key, " must have a multiple of the heads of ")
    }
    let entries = length(query, batchAxis)
    for i in 0..<2 where blocks == nil {
      let tensor = others[i]
      if length(tensor, batchAxis) != entries && length(tensor, batchAxis) != 1 {
        throw disagree(tensor, query, " must have one batch entry or as many as ")
      }
    }
    try requireShape(out, plan, [entries, heads, length(query, rowAxis), valueSize])
  }

  /// A row must be such that a workspace can hold 64 of them, and keys such that they can be
  /// counted.
  private func checkSizes() throws(Failure) {
    let most = Int64(Int32.max)
    let others: InlineArray<2, Tensor> = [key, value]
    for i in 0..<2 where length(others[i], others[i].rank - 1) > most {
      throw failure(SMX_ERROR_OVERFLOW) {
        $0.add(others[i].name)
        $0.add(" of shape ")
        $0.add(shapeOf: others[i].raw)
        $0.add(" has rows longer than ")
        $0.add(most)
        $0.add(": no memory holds a block of them")
      }
    }
    if let blocks, blocks.rank == 2 {
      let (count, overflow) = blocks.length(1).multipliedReportingOverflow(by: length(key, rowAxis))
      if overflow || count > Int64.max / 16 {
        throw failure(SMX_ERROR_OVERFLOW) {
          $0.add("block_table of shape ")
          $0.add(shapeOf: blocks.raw)
          $0.add(" and key of shape ")
          $0.add(shapeOf: key.raw)
          $0.add(" make more keys than memory can hold")
        }
      }
    }
  }

  /// Views that repeat their numbers, and empty ones, can have any number of rows: up to 2^56,
  /// tiles and tasks and their multiples by 64 can be counted.
  private func checkCount() throws(Failure) {
    if Double(batch) * Double(max(heads, 1)) * Double(max(queries, 1)) < 0x1p56 { return }
    throw failure(SMX_ERROR_OVERFLOW) {
      $0.add("query of shape ")
      $0.add(shapeOf: query.raw)
      $0.add(" has more rows than memory can hold")
    }
  }

  /// Checks an output of the query's axes against lengths in the order batch, heads, rows, columns.
  private func requireShape(
    _ out: Tensor, _ plan: UnsafeMutablePointer<smxk_attention_plan>,
    _ lengths: InlineArray<4, Int64>
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
  func checkPair(_ key: Tensor, _ value: Tensor) throws(Failure) {
    var fits = key.rank == value.rank
    if fits {
      for axis in 0..<(key.rank - 1) where axis != batchAxis || blocks != nil {
        fits = fits && key.length(axis) == value.length(axis)
      }
    }
    if !fits { throw disagree(value, key, " must have the heads and keys of ") }
  }

  private func scoresShape(_ plan: UnsafeMutablePointer<smxk_attention_plan>) -> Tensor {
    let shape = smxk_shape_of(plan)
    let lengths: InlineArray<4, Int64> = [batch, heads, queries, keys]
    let rank = isPacked ? 4 : query.rank
    for axis in 0..<rank { shape[axis] = lengths[axis + 4 - rank] }
    let scores = smxk_scores_of(plan)
    scores.pointee = smx_tensor(
      data: nil, dtype: query.dtype, ndim: Int32(rank), shape: UnsafePointer(shape), strides: nil)
    return Tensor(shapeOnly: scores, "the scores")
  }

  private func checkOptional(_ scores: Tensor) throws(Failure) {
    let isWide = Int(query.dtype) == SMX_FLOAT64
    let single = smx_dtype(isWide ? SMX_FLOAT64 : SMX_FLOAT32)
    if let mask {
      try mask.require(dtype: smx_dtype(SMX_BOOL))
      try mask.requireBroadcast(to: scores)
    }
    if let bias {
      if !(Int(query.dtype) < SMX_FLOAT32 && Int(bias.dtype) == SMX_FLOAT32) {
        try bias.require(dtype: query.dtype)
      }
      try bias.requireBroadcast(to: scores)
    }
    if let slopes {
      try slopes.require(dtype: single)
      let fits =
        slopes.rank >= 1 && slopes.rank <= 2 && slopes.length(slopes.rank - 1) == heads
        && (slopes.rank == 1 || scores.rank == 4 && slopes.length(0) == batch)
      if !fits { throw disagree(slopes, query, " must be (Hq) or (B, Hq) for ") }
    }
    if let sinks {
      try sinks.require(dtype: single)
      if sinks.rank != 1 || sinks.length(0) != heads {
        throw disagree(sinks, query, " must be (Hq) for ")
      }
    }
    if let lse {
      try lse.require(dtype: single)
      var fits = lse.rank == query.rank - 1
      if isPacked {
        fits = fits && lse.length(0) == heads && lse.length(1) == length(query, rowAxis)
        if !fits { throw disagree(lse, query, " must be (Hq, T) for ") }
      }
      if fits && !isPacked {
        for axis in 0..<lse.rank { fits = fits && lse.length(axis) == scores.length(axis) }
      }
      if !fits { throw disagree(lse, scores, " must have the axes but the last of ") }
    }
    if let weights {
      try weights.require(dtype: query.dtype)
      var fits = weights.rank == scores.rank
      if fits {
        for axis in 0..<weights.rank { fits = fits && weights.length(axis) == scores.length(axis) }
      }
      if !fits { throw disagree(weights, scores, " must have the shape of ") }
    }
  }

  // Inline: an array of Swift's own would allocate, and trap where there is no memory.
  var inputs: InlineArray<12, Tensor?> {
    [
      query, key, value, mask, bias, slopes, sinks, pastKey, pastValue, blocks, queryStarts,
      keyStarts,
    ]
  }
  var outputs: InlineArray<3, Tensor?> { [out, lse, weights] }

  /// Not of a gradient, where `out` and `lse` are inputs.
  func checkOutputs(_ structure: UnsafePointer<smx_mask>?) throws(Failure) {
    for o in 0..<3 {
      guard let output = outputs[o] else { continue }
      try output.requireOwnPlaces()
      for i in 0..<12 { try output.requireDistinct(from: inputs[i], orSame: false) }
      try output.requireDistinct(fromThoseOf: structure)
    }
    try lse?.requireDistinct(from: out, orSame: false)
    try weights?.requireDistinct(from: out, orSame: false)
    try weights?.requireDistinct(from: lse, orSame: false)
  }
}
