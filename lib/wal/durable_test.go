package wal

import (
	"math"
	"math/rand/v2"
	"testing"

	"vmcluster/lib/vfs/memfs"
)

// TestReplayedFramesAreDurable kills a process whose frames are not on the disk yet, and cuts the power after the next one has
// replayed them: what was replayed stays.
func TestReplayedFramesAreDurable(t *testing.T) {
	rng := newRand(t)
	for range 50 {
		mem := memfs.New(memfs.Options{})
		killed, _, _ := openLog(t, options(mem))
		killed.bufferBytes = 1 // every frame goes to the system when the next one comes
		appendFrames(t, killed, "a", "b", "c", "d")
		l, frames, _ := openLog(t, options(mem))
		if len(frames) == 0 {
			t.Fatal("nothing was written")
		}
		must(t, l.WaitDurable(appendFrames(t, l, "e")))
		after := mem.Crash(rand.New(rand.NewPCG(rng.Uint64(), 0)))
		must(t, l.Close())
		l, again, report := openLog(t, options(after))
		wantFrames(t, again, append(frames, "e")...)
		if len(report.Damaged) > 0 || report.Missing > 0 {
			t.Fatalf("report %+v", report)
		}
		must(t, l.Close())
	}
}

// TestNaNIsNoInteger is about machines on which the conversion of NaN to an integer gives 0.
func TestNaNIsNoInteger(t *testing.T) {
	for _, bits := range []uint64{0x7ff8000000000000, 0x7ff8000000000001, 0xfff8000000000001, 0x7ff0000000000002} {
		var e FrameEncoder
		e.AddSample(1, 1, 1, math.Float64frombits(bits))
		if code := e.Bytes()[3] >> valueShift; code <= valueBits {
			t.Errorf("NaN %x has code %d; want one of bits", bits, code)
		}
	}
}
