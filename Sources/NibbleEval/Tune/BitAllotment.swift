/// One way to encode a unit: what it costs, and what it does to quality.
struct AllotmentChoice: Hashable, Sendable {
  /// Bits, bytes or anything else that adds up over units.
  var cost: Double
  /// What is to be small, and adds up over units.
  var loss: Double
}

/// Choices for many units whose costs and losses add up: the least total loss for a total cost.
///
/// With a price for cost each unit by itself takes the choice with the least loss + price · cost, and for the right price that is
/// the best allotment of all among those that cost no more (Everett, 1963; Shoham and Gersho, 1988). Such choices lie on each unit's
/// lower convex hull, so the prices that matter are the slopes of the hulls, and the allotments for all of them are found by
/// taking the hulls' edges from the steepest to the flattest.
struct BitAllotment: Sendable {
  /// For each unit the indices of the choices on its lower convex hull, from the cheapest to the most expensive.
  let hulls: [[Int]]
  private let choices: [[AllotmentChoice]]
  private let steps: [Step]

  private struct Step {
    var unit: Int
    /// The place on the unit's hull that the step leads to.
    var place: Int
    var slope: Double
  }

  /// Finds the hulls.
  ///
  /// - Parameter choices: For each unit, at least one; finite numbers.
  /// - Complexity: O(n log n) for n choices.
  init(_ choices: [[AllotmentChoice]]) {
    self.choices = choices
    hulls = choices.map(lowerHull)
    var steps: [Step] = []
    for (unit, hull) in hulls.enumerated() {
      for place in 1..<max(1, hull.count) {
        let from = choices[unit][hull[place - 1]]
        let to = choices[unit][hull[place]]
        let slope = (from.loss - to.loss) / (to.cost - from.cost)
        steps.append(Step(unit: unit, place: place, slope: slope))
      }
    }
    // Slopes fall along a hull, so its edges stay in order; ties go to the first unit.
    self.steps = steps.sorted { ($1.slope, $0.unit, $0.place) < ($0.slope, $1.unit, $1.place) }
  }

  /// The best allotment that fits.
  ///
  /// Steps are taken as long as they fit; one that does not is left out with all others of its unit, and flatter ones of other units
  /// fill what is left.
  ///
  /// - Parameter fits: Whether an allotment, the index of a choice for each unit, is cheap enough. Dearer choices never fit where cheaper ones
  ///   do not.
  /// - Returns: The index of a choice for each unit; `nil` if even the cheapest do not fit.
  /// - Throws: What `fits` throws.
  /// - Complexity: One call of `fits` for each edge of the hulls.
  func best<Failure: Error>(fits: ([Int]) throws(Failure) -> Bool) throws(Failure) -> [Int]? {
    var allotment = hulls.map { $0[0] }
    guard try fits(allotment) else { return nil }
    var isFull = Array(repeating: false, count: hulls.count)
    for step in steps where !isFull[step.unit] {
      var next = allotment
      next[step.unit] = hulls[step.unit][step.place]
      if try fits(next) {
        allotment = next
      } else {
        isFull[step.unit] = true
      }
    }
    return allotment
  }

  /// The total loss of an allotment.
  func loss(of allotment: [Int]) -> Double {
    zip(choices, allotment).reduce(0) { $0 + $1.0[$1.1].loss }
  }

  /// The total cost of an allotment.
  func cost(of allotment: [Int]) -> Double {
    zip(choices, allotment).reduce(0) { $0 + $1.0[$1.1].cost }
  }
}

/// The choices that some price for cost would take, from the cheapest to the most expensive; of equal ones the first.
func lowerHull(_ choices: [AllotmentChoice]) -> [Int] {
  let order = choices.indices.sorted {
    (choices[$0].cost, choices[$0].loss, $0) < (choices[$1].cost, choices[$1].loss, $1)
  }
  var hull: [Int] = []
  for index in order {
    let choice = choices[index]
    if let last = hull.last, choice.loss >= choices[last].loss { continue }
    while hull.count > 1 {
      let (a, b) = (choices[hull[hull.count - 2]], choices[hull[hull.count - 1]])
      let first = (a.loss - b.loss) * (choice.cost - a.cost)
      let both = (a.loss - choice.loss) * (b.cost - a.cost)
      guard first <= both else { break }
      hull.removeLast()
    }
    hull.append(index)
  }
  return hull
}
