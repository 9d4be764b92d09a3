// The temperature of largest likelihood, by Newton's method inside a bracket.
//
// With b = 1/T the mean of -log softmax(b·x)[label] is convex in b (log-sum-exp of something
// linear, less something linear); in T or log T it need not be. So its derivative grows with b, its
// sign says on which side of b the minimum lies, and a bracket that always holds it costs nothing.
// Newton's step is taken where it stays inside the bracket and is at most half of the one before;
// otherwise the bracket is halved in log b. So every two steps halve something; 5 to 10 are usual,
// and `most` ends the search.

import CSupport
import CSwiftmax

/// What a call is asked for.
private struct Question {
  let lowest: Double
  let highest: Double
  let bins: Int
  let workspace: Workspace

  init(_ options: UnsafePointer<smx_fit_options>?, size: UnsafeMutablePointer<Int>?) throws(Failure)
  {
    let given = try read(options, or: smx_fit_options())
    let lowest = given.lowest == 0 ? 0.001 : given.lowest
    let highest = given.highest == 0 ? 1000 : given.highest
    try requirePositive(lowest, "lowest")
    try requirePositive(highest, "highest")
    if lowest > highest {
      throw failure(SMX_ERROR_VALUE) {
        $0.add("lowest is ")
        $0.add(cString: smxk_decimal(lowest))
        $0.add(", more than highest, which is ")
        $0.add(cString: smxk_decimal(highest))
      }
    }
    self.lowest = lowest
    self.highest = highest
    bins = try binCount(given.bins)
    workspace = Workspace(given.workspace, given.workspace_size, size: size)
  }
}

@implementation @_cdecl("smx_fit_temperature")
public func smx_fit_temperature(
  _ logits: UnsafePointer<smx_tensor>!, _ labels: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_fit_options>!, _ result: UnsafeMutablePointer<smx_temperature_fit>!
) -> smx_status {
  enter { (machine) throws(Failure) in
    let asked = try Question(options, size: nil)
    guard let result else { throw failure(SMX_ERROR_NULL, "result is NULL") }
    try requireSize(result, "result.size")
    let before = smxk_before_of(result)
    let after = smxk_after_of(result)
    try requireSize(before, "result.before.size")
    try requireSize(after, "result.after.size")
    guard var judges = try Judges(logits, labels, asked.bins, asked.workspace, machine)
    else { return }
    defer { judges.release() }
    try judges.readLabels()
    judges.judge(inverse: 1)
    try judges.requireLosses()
    judges.histogram.fill(judges)
    judges.histogram.write(to: before, judges)
    var fit = Fit(lowest: asked.lowest, highest: asked.highest)
    fit.run(&judges)
    judges.histogram.fill(judges)
    judges.histogram.write(to: after, judges)
    result.pointee.temperature = fit.temperature
    result.pointee.bound = fit.bound
    result.pointee.iterations = fit.iterations
  }
}

@implementation @_cdecl("smx_fit_temperature_workspace_size")
public func smx_fit_temperature_workspace_size(
  _ logits: UnsafePointer<smx_tensor>!, _ labels: UnsafePointer<smx_tensor>!,
  _ options: UnsafePointer<smx_fit_options>!, _ size: UnsafeMutablePointer<Int>!
) -> smx_status {
  enter(measuring: size) { (machine, needed) throws(Failure) in
    let asked = try Question(options, size: needed)
    _ = try Judges(logits, labels, asked.bins, asked.workspace, machine)
  }
}

private struct Fit {
  let lowest: Double
  let highest: Double
  var temperature = 1.0
  /// -1 at the lowest temperature allowed, 1 at the highest, 0 between them.
  var bound: Int32 = 0
  /// How often all rows were judged beyond the first time.
  var iterations: Int32 = 0

  init(lowest: Double, highest: Double) {
    self.lowest = lowest
    self.highest = highest
  }

  /// Relative change of b where the search ends: as near as sums of rounded numbers can tell.
  private let tolerance = 0x1p-44
  private let most: Int32 = 200

  /// Expects the judgements at b = 1, leaves those at the temperature found.
  mutating func run(_ judges: inout Judges) {
    // Constant rows, or rows so certain that nothing can be told from 1: any temperature is as
    // likely.
    let isFlat = slope(judges) == 0
    let least = 1 / highest
    let largest = 1 / lowest
    if isFlat || judges.sum({ $0.distance }) == 0 {
      // All labels are their rows' maxima: the likelihood grows with b without end.
      let b = isFlat ? min(max(1, least), largest) : largest
      if b != 1 { move(&judges, to: b) }
      temperature = isFlat ? min(max(1, lowest), highest) : lowest
      bound = isFlat ? 0 : -1
      return
    }
    var bottom = least
    var top = largest
    // Whether the slope at an end is known; it is then negative at the bottom, positive at the top.
    var knowsBottom = false
    var knowsTop = false
    var step = Double.infinity
    var b = min(max(1, least), largest)
    if b != 1 { move(&judges, to: b) }
    while true {
      let slope = slope(judges)
      let ratio = slope / judges.sum { $0.curvature }
      if slope > 0 && b == least { bound = 1 }
      if slope < 0 && b == largest { bound = -1 }
      // Where rounding has the last word steps no longer halve.
      let isNoise = step < 0x1p-30 && ratio.magnitude > step / 2
      if slope == 0 || ratio.magnitude <= tolerance || isNoise { break }
      if slope > 0 { (top, knowsTop) = (b, true) } else { (bottom, knowsBottom) = (b, true) }
      if bound != 0 || iterations >= most || top / bottom <= 1 + tolerance { break }
      var next = b - b * ratio
      if next <= bottom && !knowsBottom {
        next = bottom
      } else if next >= top && !knowsTop {
        next = top
      } else if !(next > bottom && next < top) || ratio.magnitude > step / 2 {
        // Both ends are roots of numbers that cannot overflow one by one.
        next = bottom.squareRoot() * top.squareRoot()
      }
      step = (next / b - 1).magnitude
      b = next
      move(&judges, to: b)
    }
    temperature = bound > 0 ? highest : bound < 0 ? lowest : 1 / b
  }

  private mutating func move(_ judges: inout Judges, to b: Double) {
    judges.judge(inverse: b)
    iterations += 1
  }

  private func slope(_ judges: Judges) -> Double { judges.sum { $0.slope } }
}
