package storage

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
	"vmcluster/lib/vfs/faultfs"
	"vmcluster/lib/vfs/memfs"
)

// downsampled is a storage with a rule, and the samples that it was sent.
type downsampled struct {
	t    *testing.T
	c    *clock
	o    Options
	cfg  Config
	s    *Storage
	key  string
	sent map[int64]float64
}

func newDownsampled(t *testing.T, fsys vfs.FS) *downsampled {
	t.Helper()
	d := &downsampled{t: t, c: &clock{now: testNow()}, key: keyOf(t, model.TenantID{}, "m", "prod"), sent: map[int64]float64{}}
	d.cfg = testConfig()
	d.cfg.DownsamplingRules = []DownsamplingRule{{Offset: 24 * time.Hour, Interval: 5 * time.Minute}}
	d.open(fsys)
	return d
}

func (d *downsampled) open(fsys vfs.FS) {
	d.t.Helper()
	d.o = testOptions(fsys)
	d.o.Now = d.c.Now
	d.s = openTest(d.t, d.cfg, d.o)
}

// send sends a sample per minute from a time on.
func (d *downsampled) send(from int64, minutes int) {
	d.t.Helper()
	b := &model.Batch{}
	b.AddKey([]byte(d.key), model.HashSeriesKey([]byte(d.key)))
	for i := range int64(minutes) {
		at := from + i*60_000
		d.sent[at] = float64(at / 60_000 % 1000)
		b.AddSample(at, d.sent[at])
	}
	ingest(d.t, d.s, b)
}

func (d *downsampled) flush() {
	d.t.Helper()
	if err := d.s.Flush(context.Background()); err != nil {
		d.t.Fatal(err)
	}
}

// merge does what the background does.
func (d *downsampled) merge() {
	for _, p := range d.s.table.Load().sorted {
		d.s.mergeWhileDue(p)
	}
}

// raw counts the raw samples which are left.
func (d *downsampled) raw() int {
	d.t.Helper()
	if raw := contents(d.t, d.s, model.TenantID{}, model.AspectSum)[d.key][tsblock.Raw]; raw != nil {
		return raw.Len()
	}
	return 0
}

// wantExact compares counts and sums with what was sent, every sample counted once.
func (d *downsampled) wantExact(what string) {
	d.t.Helper()
	count, sum := 0.0, 0.0
	for _, v := range d.sent {
		count, sum = count+1, sum+v
	}
	gotCount, gotSum := 0.0, 0.0
	for c, s := range contents(d.t, d.s, model.TenantID{}, model.AspectMean)[d.key] {
		for _, v := range s.Values {
			switch c {
			case tsblock.Raw:
				gotCount, gotSum = gotCount+1, gotSum+v
			case tsblock.Count:
				gotCount += v
			case tsblock.Sum:
				gotSum += v
			}
		}
	}
	if gotCount != count || gotSum != sum {
		d.t.Errorf("%s: %v samples with sum %v; want %v with sum %v", what, gotCount, gotSum, count, sum)
	}
}

// TestDownsamplingAfterCrashBeforeLogIsCut flushes old samples and crashes while the log still has them. Replayed, they count once.
func TestDownsamplingAfterCrashBeforeLogIsCut(t *testing.T) {
	for _, forced := range []bool{false, true} {
		mem := memfs.New(memfs.Options{})
		faulty := faultfs.New(mem)
		d := newDownsampled(t, faulty)
		d.send(testNow().UnixMilli()-3*dayMs, 600)
		faulty.SetFault(faultfs.Fault{At: 1, Sticky: true, Kinds: []faultfs.Kind{faultfs.RemoveAll}}) // segments of the log stay
		if err := d.s.Flush(context.Background()); err == nil {
			t.Fatal("a flush succeeded which could not remove the log")
		}
		if n := d.s.sum().Small.Rows; n != 600 {
			t.Fatalf("%d samples are in parts; want 600", n)
		}
		if d.merge(); d.raw() != 600 {
			t.Errorf("%d raw samples are left of 600 that the log still has", d.raw())
		}
		crashed := mem.Crash(rand.New(rand.NewPCG(1, 1)))
		kill(faulty, d.s)
		d.open(crashed)
		d.wantExact("after the crash")
		d.merge()
		d.wantExact("after the crash, merged")
		if forced {
			if err := d.s.Merge(context.Background(), ""); err != nil {
				t.Fatal(err)
			}
		} else {
			d.flush()
			d.merge()
		}
		d.wantExact("flushed and merged")
		if n := d.raw(); n != 0 {
			t.Errorf("%d raw samples are left", n)
		}
		closeTest(t, d.s)
	}
}

// TestSamplesSentTwiceCountOnce sends samples again before they are downsampled, into another part or into the head.
func TestSamplesSentTwiceCountOnce(t *testing.T) {
	for name, f := range map[string]func(d *downsampled, old int64){
		"in two parts": func(d *downsampled, old int64) {
			d.flush()
			d.send(old+100*60_000, 300)
			d.flush()
			d.merge()
		},
		"in a chain of parts": func(d *downsampled, old int64) {
			for i := range int64(6) {
				d.send(old+(i*200+100)*60_000, 300)
				d.flush()
			}
			d.merge()
		},
		"in the head": func(d *downsampled, old int64) {
			d.flush()
			d.send(old+100*60_000, 300)
			d.merge()
			d.wantExact("before the flush")
			if d.raw() < 400 {
				d.t.Errorf("%d raw samples are left, although the head has copies", d.raw())
			}
			d.flush()
			d.merge()
		},
		"in the head, forced": func(d *downsampled, old int64) {
			d.flush()
			d.send(old+100*60_000, 300)
			if err := d.s.Merge(context.Background(), ""); err != nil {
				d.t.Fatal(err)
			}
		},
		"in the head, some not yet old": func(d *downsampled, old int64) {
			d.send(testNow().UnixMilli()-dayMs+60_000, 60)
			d.flush()
			d.merge() // looks at the part for the first time
			d.send(testNow().UnixMilli()-dayMs-600*60_000, 660)
			d.c.set(testNow().Add(30 * time.Minute))
			d.merge()
			d.wantExact("half an hour later")
			d.c.set(testNow().Add(2 * time.Hour))
			d.merge()
			d.wantExact("two hours later")
			d.flush()
			d.merge()
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDownsampled(t, memfs.New(memfs.Options{}))
			defer closeTest(t, d.s)
			old := testNow().UnixMilli() - 4*dayMs
			d.send(old, 300)
			f(d, old)
			d.wantExact("at the end")
			if n := d.raw(); n != 0 {
				t.Errorf("%d raw samples are left", n)
			}
		})
	}
}

// TestLateSamplesDoNotStopDownsampling has late samples in the head all the time.
func TestLateSamplesDoNotStopDownsampling(t *testing.T) {
	d := newDownsampled(t, memfs.New(memfs.Options{}))
	defer closeTest(t, d.s)
	start := testNow().UnixMilli()
	at := start - 2*dayMs
	d.send(at-7*60_000, 1)
	late := map[int64]bool{}
	for hour := range int64(72) {
		d.c.set(time.UnixMilli(start + hour*3600_000))
		d.send(at+hour*3600_000, 60) // a client which is two days behind
		d.flush()
		for i := range int64(3) { // and samples all over the past, which are never sent twice
			x := at - dayMs + hour*1000 + i*9*3600_000 + 500
			late[x] = true
			d.send(x, 1)
		}
		d.merge()
		d.wantExact("with late samples")
	}
	if n, max := d.raw(), 3*60+10; n > max {
		t.Errorf("%d raw samples are left of %d; want at most those of the last hours, %d", n, len(d.sent), max)
	}
	if len(late) != 3*72 {
		t.Fatalf("the test sends %d late samples", len(late))
	}
	d.send(at+90*60_000, 1) // in the head while merging by force
	if err := d.s.Merge(context.Background(), ""); err != nil {
		t.Fatal(err)
	}
	if n := d.raw(); n != 0 {
		t.Errorf("%d raw samples are left after a forced merge", n)
	}
}

// TestDownsamplingRewritesLittle plays two months of hourly flushes with late samples and counts how often samples are rewritten.
func TestDownsamplingRewritesLittle(t *testing.T) {
	d := newDownsampled(t, memfs.New(memfs.Options{}))
	d.cfg.DownsamplingRules = []DownsamplingRule{{Offset: 7 * 24 * time.Hour, Interval: 5 * time.Minute}}
	closeTest(t, d.s)
	d.open(memfs.New(memfs.Options{}))
	defer func() { closeTest(t, d.s) }()
	start := testNow().UnixMilli()
	rng := rand.New(rand.NewPCG(3, 3))
	days := int64(40)
	if testing.Short() {
		days = 10
	}
	for hour := range days * 24 {
		d.c.set(time.UnixMilli(start + hour*3600_000))
		d.send(start+(hour-1)*3600_000, 60)
		if rng.IntN(3) == 0 {
			d.send(start+(hour-1)*3600_000-rng.Int64N(20*dayMs), 1)
		}
		d.flush()
		d.merge()
	}
	rows := d.s.m.partitions.Small.Rows.Get() + d.s.m.partitions.Big.Rows.Get()
	if most := 11 * len(d.sent); int(rows) > most {
		t.Errorf("merges wrote %d samples for %d; want at most %d", rows, len(d.sent), most)
	}
	t.Logf("merges wrote %d samples for %d", rows, len(d.sent))
	parts := 0
	for _, p := range d.s.table.Load().sorted {
		parts += len(p.Infos())
	}
	if parts > 60 {
		t.Errorf("%d parts are left", parts)
	}
	reach := d.c.Now().UnixMilli() - 7*dayMs
	old := 0
	for _, at := range contents(t, d.s, model.TenantID{}, model.AspectSum)[d.key][tsblock.Raw].Timestamps {
		if at < reach-2*dayMs {
			old++
		}
	}
	if old > len(d.sent)/50 {
		t.Errorf("%d raw samples are left of a time which the rule reached two days ago", old)
	}
}
