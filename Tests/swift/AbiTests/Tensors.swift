// Tensors and structures with the life of one call: an arena owns what the C structs point to.

import CSwiftmax

/// Memory that lives as long as this object.
final class Arena {
  private var blocks: [UnsafeMutableRawPointer] = []

  deinit { for block in blocks { block.deallocate() } }

  func copy<T>(_ values: [T]) -> UnsafeMutablePointer<T> {
    let size = max(values.count, 1) * MemoryLayout<T>.stride
    let block = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
    blocks.append(block)
    return block.initializeMemory(as: T.self, from: values, count: values.count)
  }

  /// A tensor over the values' own copy, strides in C order.
  func tensor(_ a: Dense) -> UnsafeMutablePointer<smx_tensor> {
    tensor(copy(a.bytes), a.dtype, a.shape, itemSize: a.itemSize)
  }

  func tensor(_ numbers: [Int32], _ shape: [Int]) -> UnsafeMutablePointer<smx_tensor> {
    tensor(copy(numbers), SMX_INT32, shape, itemSize: 4)
  }

  private func tensor(
    _ data: UnsafeMutableRawPointer, _ dtype: Int, _ shape: [Int], itemSize: Int
  ) -> UnsafeMutablePointer<smx_tensor> {
    var strides = [Int64](repeating: Int64(itemSize), count: shape.count)
    for axis in shape.indices.dropLast().reversed() {
      strides[axis] = strides[axis + 1] * Int64(shape[axis + 1])
    }
    let made = smx_tensor(
      data: data, dtype: smx_dtype(dtype), ndim: Int32(shape.count),
      shape: UnsafePointer(copy(shape.map { Int64($0) })), strides: UnsafePointer(copy(strides)))
    return copy([made])
  }

  /// The conditions of a golden case, linked; nil for none.
  func structure(_ c: GoldenCase) -> UnsafeMutablePointer<smx_mask>? {
    guard let text = c.options["structure"] else { return nil }
    var following: UnsafeMutablePointer<smx_mask>?
    for condition in text.split(separator: "&").reversed() {
      var mask = self.condition(c, condition.split(separator: ":").map { String($0) })
      mask.also = UnsafePointer(following)
      following = copy([mask])
    }
    return following
  }

  private func condition(_ c: GoldenCase, _ words: [String]) -> smx_mask {
    let queries = c.shape[c.shape.count - 2]
    let keys = c.cols
    // One number for each entry of the first axis, or a single one where there is no such axis.
    let leading = c.shape.count > 2 ? [c.shape[0]] : []
    func each(_ value: (Int) -> Int32) -> UnsafePointer<smx_tensor> {
      UnsafePointer(tensor((0..<leading.reduce(1, *)).map(value), leading))
    }
    var mask = smx_mask()
    mask.size = MemoryLayout<smx_mask>.size
    switch words[0] {
    case "causal":
      mask.causal = 1
      if words.count == 1 { break }
      mask.query_offset =
        words[1] == "batch"
        ? each { Int32(c.stream(4, $0) % 7) - 3 } : UnsafePointer(tensor([Int32(words[1])!], []))
    case "window":
      mask.window = 1
      mask.window_left = Int64(words[1])!
      mask.window_right = Int64(words[2])!
    case "lengths": mask.key_lengths = each { Int32(c.stream(4, $0) % UInt64(keys + 1)) }
    case "qlengths":
      mask.query_lengths = each { Int32(c.stream(4, $0 + 100) % UInt64(queries + 1)) }
    default:
      func thirds(_ count: Int) -> [Int32] { (0..<count).map { Int32(3 * $0 / count) } }
      mask.query_segments = UnsafePointer(tensor(thirds(queries), [queries]))
      mask.key_segments = UnsafePointer(tensor(thirds(keys), [keys]))
    }
    return mask
  }
}
