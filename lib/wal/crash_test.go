package wal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"

	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

func withChecksum(header []byte) []byte {
	binary.LittleEndian.PutUint32(header[16:], crc32.Checksum(header[:16], castagnoli()))
	return header
}

// model knows which frames the log owes us. Frames carry consecutive numbers.
type model struct {
	rng  *rand.Rand
	mem  *memfs.FS
	next uint32

	free       func()   // ends a fault
	awaited    Position // what the next wait is for; frames below awaitedEnd
	awaitedEnd uint32

	mu      sync.Mutex
	removed uint32 // frames below were given up by RemoveBefore
	durable uint32 // frames below are acknowledged
}

func (m *model) frame() []byte {
	size := 0
	switch m.rng.IntN(10) {
	case 0:
		size = m.rng.IntN(20000)
	case 1, 2:
		size = m.rng.IntN(1000)
	}
	frame := binary.BigEndian.AppendUint32(nil, m.next)
	for range size {
		frame = append(frame, byte(m.next))
	}
	return frame
}

// check replays a log and compares with what is owed: every acknowledged frame, then
// perhaps some of the others, in order and with nothing invented. Of what was given up anything may be there.
func (m *model) check(frames []string, report ReplayReport) error {
	if report.Missing > 0 {
		return fmt.Errorf("%d segments are missing", report.Missing)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	first, end := m.next, m.next
	for i, f := range frames {
		n := binary.BigEndian.Uint32([]byte(f))
		if i == 0 || n > end && n <= m.removed {
			first, end = n, n
		}
		if n != end {
			return fmt.Errorf("frame %d is number %d; the first was %d; given up are those before %d", i, n, first, m.removed)
		}
		end++
		for _, c := range []byte(f[4:]) {
			if c != byte(n) {
				return fmt.Errorf("frame %d has wrong contents", n)
			}
		}
	}
	if end > m.next {
		return fmt.Errorf("replayed up to frame %d of %d", end, m.next)
	}
	if m.durable > m.removed && (first > m.removed || end < m.durable) {
		return fmt.Errorf("replayed frames %d to %d; acknowledged are %d to %d", first, end, m.removed, m.durable)
	}
	return nil
}

// live does random things with the log until it fails or steps are over, and
// crashes at a random operation of the file system.
func (m *model) live(t *testing.T) (found *memfs.FS) {
	fault := faultfs.New(m.mem)
	crashAt := int64(1 + m.rng.IntN(60))
	crashRng := rand.New(rand.NewPCG(m.rng.Uint64(), 0))
	var frozen model // what was owed at the crash
	fault.SetHook(func(op faultfs.Op) {
		if op.N != crashAt {
			return
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		frozen.removed, frozen.durable = m.removed, m.durable
		found = m.mem.Crash(crashRng)
	})
	if m.rng.IntN(3) == 0 {
		f := faultfs.Fault{At: int64(1 + m.rng.IntN(80)), Short: m.rng.IntN(2) == 0}
		if m.rng.IntN(2) == 0 {
			f.Err, f.Kinds = syscall.ENOSPC, []faultfs.Kind{faultfs.Write, faultfs.Create}
			f.Sticky = m.rng.IntN(2) == 0
		}
		fault.SetFault(f)
	}
	m.free = func() { fault.SetFault(faultfs.Fault{}) }
	o := options(fault)
	o.SegmentBytes = int64(200 + m.rng.IntN(30000))
	l, err := Open(o)
	if err == nil {
		l.bufferBytes = 1 + m.rng.IntN(30000)
		m.use(t, l)
	}
	if found == nil { // fewer operations than expected: crash at the end
		return m.mem.Crash(m.rng)
	}
	m.removed, m.durable = frozen.removed, frozen.durable
	return found
}

// use works with an open log. Errors end it; the model knows what was acknowledged.
func (m *model) use(t *testing.T, l *Log) {
	var frames []string
	report, err := l.Replay(func(f []byte) error { frames = append(frames, string(f)); return nil })
	if err != nil {
		return
	}
	if err := m.check(frames, report); err != nil {
		t.Fatalf("after an orderly opening: %v", err)
	}
	// Frames that were not acknowledged may be gone; numbering goes on behind what is there.
	m.next = m.durable
	if n := len(frames); n > 0 {
		m.next = binary.BigEndian.Uint32([]byte(frames[n-1])) + 1
	}
	m.mu.Lock()
	m.durable = min(m.durable, m.next) // what was given up is gone, and its numbers come again
	m.mu.Unlock()
	m.awaited, m.awaitedEnd = 0, 0
	defer l.Close()
	for range m.rng.IntN(80) {
		if err := m.step(l); err == nil {
			continue
		}
		if l.Full() == nil {
			return
		}
		if m.rng.IntN(2) == 0 {
			m.free()
		}
		if l.Resume() == nil { // what was appended before is durable now
			m.acknowledge(m.next)
		}
	}
	if m.rng.IntN(2) == 0 && l.Close() == nil {
		m.acknowledge(m.next)
	}
}

func (m *model) acknowledge(end uint32) {
	m.mu.Lock()
	m.durable = max(m.durable, end)
	m.mu.Unlock()
}

func (m *model) step(l *Log) error {
	switch m.rng.IntN(12) {
	case 0:
		segment, err := l.Rotate()
		if err != nil || m.rng.IntN(2) == 0 {
			return err
		}
		m.mu.Lock()
		m.removed = m.next // from now on they may go
		m.mu.Unlock()
		return l.RemoveBefore(segment)
	default:
		p, err := l.Append(m.frame())
		if err != nil {
			return err
		}
		m.next++
		if m.rng.IntN(3) == 0 {
			m.awaited, m.awaitedEnd = p, m.next
		}
		if m.rng.IntN(4) > 0 {
			return nil
		}
		if err := l.WaitDurable(m.awaited); err != nil {
			return err
		}
		m.acknowledge(m.awaitedEnd)
	}
	return nil
}

// TestCrashes lives through many crashes at random operations, failures of the
// disk included, several in a row on the same log.
func TestCrashes(t *testing.T) {
	base := newRand(t).Uint64()
	rounds := 400
	if testing.Short() {
		rounds = 50
	}
	for round := range rounds {
		seed := base + uint64(round)
		m := &model{rng: rand.New(rand.NewPCG(seed, 0)), mem: memfs.New(memfs.Options{})}
		for life := range 5 {
			m.mem = m.live(t)
			l, err := Open(options(m.mem))
			must(t, err)
			var frames []string
			report, err := l.Replay(func(f []byte) error { frames = append(frames, string(f)); return nil })
			must(t, err)
			if err := m.check(frames, report); err != nil {
				t.Fatalf("seed %d, life %d: %v (%+v)", seed, life, err, report)
			}
			must(t, l.Close())
			// Replayed frames are durable: the log has vouched for them.
			if n := len(frames); n > 0 {
				m.durable = max(m.durable, binary.BigEndian.Uint32([]byte(frames[n-1]))+1)
			}
			m.next = max(m.next, m.durable)
		}
	}
}

// TestCrashOfConcurrentWriters crashes under load and looks for what was
// acknowledged before.
func TestCrashOfConcurrentWriters(t *testing.T) {
	rng := newRand(t)
	for range 20 {
		mem := memfs.New(memfs.Options{})
		fault := faultfs.New(mem)
		var mu sync.Mutex
		acknowledged := map[string]bool{}
		var owed []string
		var found *memfs.FS
		crashAt := int64(1 + rng.IntN(150))
		crashRng := rand.New(rand.NewPCG(rng.Uint64(), 0))
		fault.SetHook(func(op faultfs.Op) {
			if op.N != crashAt {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			for f := range acknowledged {
				owed = append(owed, f)
			}
			found = mem.Crash(crashRng)
		})
		o := options(fault)
		o.SegmentBytes = 3000
		l, _, _ := openLog(t, o)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				for i := range 40 {
					f := fmt.Sprintf("writer %d frame %d", w, i)
					mustWrite(t, l, f)
					mu.Lock()
					acknowledged[f] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		must(t, l.Close())
		if found == nil {
			found = mem
		}
		o.FS = vfs.FS(found)
		_, frames, _ := openLog(t, o)
		got := map[string]bool{}
		for _, f := range frames {
			if got[f] {
				t.Fatalf("%q is replayed twice", f)
			}
			got[f] = true
		}
		for _, f := range owed {
			if !got[f] {
				t.Fatalf("%q was acknowledged and is lost", f)
			}
		}
	}
}
