/** How much memory a function asks for, garbage and all. */
import { getHeapStatistics } from 'node:v8';

/** Bytes of the heap and of buffers beside it. Exact: V8 counts up to the last object. */
function inUse(): number {
  const { used_heap_size: heap, external_memory: beside } = getHeapStatistics();
  return heap + beside;
}

/**
 * The bytes that `act` asks for, which must do the same each time. What V8 itself does in between, compiling and
 * collecting, does not happen every time: beyond `limit` the least of several is taken.
 */
export function allocatedBy(act: () => void, limit: number): number {
  let least = Number.POSITIVE_INFINITY;
  for (let tries = 0; tries < 20; tries++) {
    const before = inUse();
    act();
    const bytes = inUse() - before;
    // Negative: garbage was collected meanwhile.
    if (bytes >= 0) least = Math.min(least, bytes);
    if (least <= limit) break;
  }
  return least;
}
