// Keys that do not lie in one tensor: past ones in another, blocks of a pool found through a table,
// entries of many lengths packed one behind the other.

import CSupport
import CSwiftmax

/// Element `i` of an integer tensor of one axis.
private func element(_ tensor: Tensor, _ i: Int64) -> Int64 {
  smxk_integer(
    tensor.dtype, UnsafeRawPointer(tensor.raw.pointee.data!) + Int(i &* tensor.stride(0)))
}

/// The longest of the entries between starts.
func longest(_ starts: Tensor) -> Int64 {
  var most: Int64 = 0
  var i: Int64 = 1
  while i < starts.count {
    most = max(most, element(starts, i) &- element(starts, i - 1))
    i += 1
  }
  return most
}

extension AttentionTensors {
  /// Where packed entries begin: numbers that do not fall, from 0 to the rows that there are.
  func checkStarts() throws(Failure) {
    if (queryStarts == nil) != (keyStarts == nil) {
      throw failure(SMX_ERROR_VALUE, "query_starts and key_starts must be given together")
    }
    guard let queryStarts, let keyStarts else { return }
    let operands: InlineArray<3, Tensor> = [query, key, value]
    for i in 0..<3 where operands[i].rank != 3 {
      throw disagree(queryStarts, operands[i], " needs 3 axes, those of packed entries, of ")
    }
    if mask != nil || bias != nil || weights != nil || pastKey != nil || blocks != nil {
      throw failure(
        SMX_ERROR_VALUE,
        "query_starts cannot be given with mask, bias, weights, past_key or block_table")
    }
    try checkStarts(queryStarts, like: queryStarts, rows: length(query, rowAxis))
    try checkStarts(keyStarts, like: queryStarts, rows: length(key, rowAxis))
  }

  private func checkStarts(_ starts: Tensor, like other: Tensor, rows: Int64) throws(Failure) {
    try starts.requireIntegers()
    if starts.rank != 1 || starts.count == 0 {
      throw failure(SMX_ERROR_SHAPE) {
        $0.add(starts.name)
        $0.add(" must have the shape (B + 1,) for B packed entries, but has shape ")
        $0.add(shapeOf: starts.raw)
      }
    }
    if starts.count != other.count {
      throw disagree(starts, other, " must be (B + 1), as ")
    }
    var before: Int64 = 0
    for i in 0..<starts.count {
      let start = element(starts, i)
      if start < before || start > rows {
        throw failure(SMX_ERROR_VALUE) {
          $0.add(starts.name)
          $0.add(" holds ")
          $0.add(start)
          $0.add(" behind ")
          $0.add(before)
          $0.add(", but must not fall and there are ")
          $0.add(rows)
          $0.add(" rows")
        }
      }
      before = start
    }
  }

  func checkPast() throws(Failure) {
    if (pastKey == nil) != (pastValue == nil) {
      throw failure(SMX_ERROR_VALUE, "past_key and past_value must be given together")
    }
    guard let pastKey, let pastValue else { return }
    if blocks != nil {
      throw failure(SMX_ERROR_VALUE, "block_table and past_key cannot be given together")
    }
    try checkPast(pastKey, key)
    try checkPast(pastValue, value)
    try checkPair(pastKey, pastValue)
  }

  private func checkPast(_ past: Tensor, _ own: Tensor) throws(Failure) {
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

  /// Before its length is asked for.
  func checkTableShape() throws(Failure) {
    guard let blocks else { return }
    try blocks.requireIntegers()
    if query.rank != 4 || blocks.rank != 2 || blocks.length(0) != query.length(0) {
      throw disagree(blocks, query, " must be (B, N) for the batch of ")
    }
  }

  func checkTable(_ options: smx_attention_options) throws(Failure) {
    guard let blocks else { return }
    let pool = key.length(0)
    let size = length(key, rowAxis)
    for entry in 0..<batch {
      let seen = longestRow(options.structure, entry)
      // Of blocks that hold nothing none is read.
      for n in 0..<(size == 0 ? 0 : min(blocks.length(1), (seen + size - 1) / size)) {
        let p =
          UnsafeRawPointer(blocks.raw.pointee.data!)
          + Int(entry &* blocks.stride(0) + n &* blocks.stride(1))
        let block = smxk_integer(blocks.dtype, p)
        if block < 0 || block >= pool {
          throw failure(SMX_ERROR_VALUE) {
            $0.add("block_table")
            blocks.add(entry &* blocks.length(1) &+ n, to: &$0)
            $0.add(" is ")
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
    for head in 0..<heads {
      var seen = keys
      var condition = structure
      while let c = condition {
        if let lengths = c.pointee.key_lengths {
          let index: InlineArray<2, Int64> = [entry, head]
          var p = UnsafeRawPointer(lengths.pointee.data!)
          for axis in 0..<Int(lengths.pointee.ndim) {
            p += Int(index[axis] &* lengths.pointee.strides[axis])
          }
          seen = min(seen, smxk_integer(lengths.pointee.dtype, p))
        }
        condition = UnsafePointer(c.pointee.also)
      }
      most = max(most, seen)
    }
    return most
  }
}
