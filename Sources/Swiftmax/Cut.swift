// Where a filter cuts a row whose remaining elements are too many for a list: by histograms, not by
// sorting.
//
// Numbers are ordered as the integers that their bits become. The range between a lower bound and
// the maximum is cut into 512 buckets; one scan counts, or weighs, what falls into each; the bucket
// in which the sum from the top reaches what is needed is the next range, until it holds one value.
// Sums are exact, so this is what sorting all would find. The lower bound of top_p keeps most of a
// row away: what is below it cannot weigh enough together to matter.

import CSupport

private let bucketCount = 512

/// Numbers in order as integers; -0 is 0.
private func key(_ value: Double, isWide: Bool) -> Int64 {
  let value = value + 0
  let bits =
    isWide
    ? Int64(bitPattern: value.bitPattern) : Int64(Int32(bitPattern: Float(value).bitPattern))
  let magnitude = isWide ? bits & Int64.max : bits & 0x7fff_ffff
  return bits < 0 ? -magnitude : magnitude
}

private func value(_ key: Int64, isWide: Bool) -> Double {
  let magnitude = key.magnitude
  let number =
    isWide
    ? Double(bitPattern: magnitude)
    : Double(Float(bitPattern: UInt32(truncatingIfNeeded: magnitude)))
  return key < 0 ? -number : number
}

extension RowChoice {
  /// The cut behind the first `count` elements.
  mutating func rankCut(_ count: Int64) -> Cut {
    findCut(Mass(high: 0, low: UInt64(count)), above: -.infinity, byRank: true)
  }

  /// The cut behind the first elements that together weigh `need`, of all that weigh `total`.
  mutating func massCut(_ need: Mass, of total: Mass) -> Cut {
    // What n elements may weigh without being missed, each; half of that, for 2^y is not exact.
    var spare = total
    spare.subtract(need)
    let each = spare.number / Double(cols) * 0.5
    if each > 0x1p-60 && exponent.factor > 0 {
      let distance =
        kernels.pointee.log(each) * 0x1.71547652b82fep0 / exponent.factor / exponent.before
      let bound = maximum + distance
      if bound - bound == 0 && bound < maximum {
        let rounded = isWide ? bound : Double(Float(bound))
        if rounded - rounded == 0 {
          let cut = findCut(need, above: below(rounded), byRank: false)
          if cut.place >= 0 { return cut }
        }
      }
    }
    return findCut(need, above: -.infinity, byRank: false)
  }

  /// A place below 0 where what is above `bound` is not enough.
  private mutating func findCut(_ need: Mass, above bound: Double, byRank: Bool) -> Cut {
    let isWide = isWide
    let masses = room.assumingMemoryBound(to: Mass.self)
    let least = isWide ? -Double.greatestFiniteMagnitude : Double(-Float.greatestFiniteMagnitude)
    var low = key(max(bound, least), isWide: isWide)
    var high = key(maximum, isWide: isWide)
    // The sum of what lies above the range.
    var above = Mass()
    while true {
      let width = UInt64(bitPattern: high &- low)
      var shift: UInt64 = 0
      while width >> shift >= UInt64(bucketCount) { shift += 1 }
      for b in 0..<bucketCount { masses[b] = Mass() }
      fill(masses, low, high, shift, byRank)
      var b = Int(width >> shift)
      while b >= 0 {
        var reached = above
        reached.add(masses[b])
        if !reached.isBelow(need) { break }
        above = reached
        b -= 1
      }
      if b < 0 { return Cut() }
      low = low &+ Int64(bitPattern: UInt64(b) << shift)
      if shift == 0 { break }
      let last = (UInt64(1) << shift) - 1
      if UInt64(bitPattern: high &- low) > last { high = low &+ Int64(bitPattern: last) }
    }
    var rest = need
    rest.subtract(above)
    let x = value(low, isWide: isWide)
    return Cut(value: x, place: placeOf(x, weighing: rest, byRank))
  }

  /// Adds what lies in low ... high to the buckets, one scan.
  private mutating func fill(
    _ masses: UnsafeMutablePointer<Mass>, _ low: Int64, _ high: Int64, _ shift: UInt64,
    _ byRank: Bool
  ) {
    let isWide = isWide
    // The places of the list make room for its weights.
    let weights = UnsafeMutableRawPointer(list.places).assumingMemoryBound(to: UInt64.self)
    var s = selection(above: below(value(low, isWide: isWide)))
    while s.at < cols {
      s.count = 0
      scan(&s)
      let count = Int(s.count)
      if !byRank { weighList(list.values, count, weights) }
      for i in 0..<count {
        let k = key(list.values[i], isWide: isWide)
        if k > high { continue }
        let bucket = Int(UInt64(bitPattern: k &- low) >> shift)
        masses[bucket].add(byRank ? 1 : weights[i])
      }
    }
  }

  /// The place of the element equal to x at which those equal to it have come to weigh `need`.
  private mutating func placeOf(_ x: Double, weighing need: Mass, _ byRank: Bool) -> Int64 {
    var weight: UInt64 = 1
    if !byRank { withUnsafePointer(to: x) { weighList($0, 1, &weight) } }
    var sum = Mass()
    var s = selection(above: below(x))
    while s.at < cols {
      s.count = 0
      scan(&s)
      for i in 0..<Int(s.count) where list.values[i] == x {
        sum.add(weight)
        if !sum.isBelow(need) { return list.places[i] }
      }
    }
    return cols - 1
  }

  /// Takes out what has a logarithm of its weight below `least`: the weight's logarithm never falls
  /// as x grows.
  mutating func raiseCut(toLogWeight least: Double) {
    let isWide = isWide
    // low is out, or the lowest that is not looked at; high stays.
    var low = key(isWide ? -Double.infinity : Double(-Float.infinity), isWide: isWide)
    var high = key(maximum, isWide: isWide)
    while UInt64(bitPattern: high &- low) > 1 {
      let middle = low &+ Int64(UInt64(bitPattern: high &- low) / 2)
      if logWeight(value(middle, isWide: isWide)) >= least { high = middle } else { low = middle }
    }
    let bound = below(value(high, isWide: isWide))
    if bound >= cut.value { cut = Cut(value: bound, place: -1) }
  }
}
