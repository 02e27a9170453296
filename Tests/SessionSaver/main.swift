// Saves a session again and again, and says after each save how many it holds, until it is ended.
import NibbleKV

#if canImport(Glibc)
import Glibc
#elseif canImport(Darwin)
import Darwin
#endif

let path = CommandLine.arguments[1]
let cache = try SavedSchedule.cache()
var sequence =
  (try? cache.restoreSequence(from: path)) ?? cache.makeSequence()
while true {
  let count = sequence.tokenCount / SavedSchedule.tokensOfSave
  if count == SavedSchedule.mostSaves { sequence = cache.makeSequence() }
  try SavedSchedule.append(save: count % SavedSchedule.mostSaves, to: sequence)
  try sequence.save(to: path)
  let line = Array("\(count % SavedSchedule.mostSaves + 1)\n".utf8)
  write(1, line, line.count)
}
