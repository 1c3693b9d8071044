package partition

import (
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
)

func update() bool { return flag.Lookup("update").Value.String() == "true" }

func TestMain(m *testing.M) {
	flag.Bool("update", false, "rewrite golden files")
	flag.Parse()
	os.Exit(m.Run())
}

func TestMonth(t *testing.T) {
	ms := func(s string) int64 {
		v, err := time.Parse("2006-01-02T15:04:05.000", s)
		if err != nil {
			t.Fatal(err)
		}
		return v.UnixMilli()
	}
	for _, c := range []struct{ at, name, first, last string }{
		{"2024-04-01T00:00:00.000", "2024_04", "2024-04-01T00:00:00.000", "2024-04-30T23:59:59.999"},
		{"2024-02-29T23:59:59.999", "2024_02", "2024-02-01T00:00:00.000", "2024-02-29T23:59:59.999"},
		{"1999-12-31T23:59:59.999", "1999_12", "1999-12-01T00:00:00.000", "1999-12-31T23:59:59.999"},
		{"1970-01-01T00:00:00.000", "1970_01", "1970-01-01T00:00:00.000", "1970-01-31T23:59:59.999"},
	} {
		m := MonthOf(ms(c.at))
		want := model.TimeRange{Min: ms(c.first), Max: ms(c.last)}
		if m.String() != c.name || m.Range() != want || !m.Valid() {
			t.Errorf("%s: %s %s; want %s %s", c.at, m, m.Range(), c.name, want)
		}
		if back, ok := ParseMonth(c.name); !ok || back != m {
			t.Errorf("ParseMonth(%q) = %v, %t", c.name, back, ok)
		}
	}
	for _, bad := range []string{"", "2024", "2024_13", "2024_00", "2024_4", "2024_04.dropped", "x", "0000_01"} {
		if m, ok := ParseMonth(bad); ok {
			t.Errorf("ParseMonth(%q) = %s", bad, m)
		}
	}
	if Month(0).Valid() || Month(10000*12).Valid() || !IsDropped("2024_04.dropped") || IsDropped("2024_04") || IsDropped("x.dropped") {
		t.Error("Valid or IsDropped gives wrong answers")
	}
}

func infos(rows ...int64) []PartInfo {
	var list []PartInfo
	for _, n := range rows {
		list = append(list, PartInfo{Rows: n, SizeBytes: n})
	}
	return list
}

func TestPickMerge(t *testing.T) {
	const room = 1 << 60
	for _, c := range []struct {
		name  string
		parts []PartInfo
		room  int64
		want  []int
	}{
		{"none", nil, room, nil},
		{"too few", infos(1, 2, 3, 4, 5, 6, 7, 8, 9), room, nil},
		{"one level", infos(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), room, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		{"the others are larger", infos(1, 2, 3, 4, 5, 1e6, 6, 7, 8, 9, 1e5), room, nil},
		{"skips larger", infos(1, 2, 3, 4, 5, 1e6, 6, 7, 8, 9, 10), room, []int{0, 1, 2, 3, 4, 6, 7, 8, 9, 10}},
		{"at most 16", infos(9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 1), room, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17}},
		{"no room", infos(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 54, nil},
		{"room", infos(1, 2, 3, 4, 5, 6, 7, 8, 9, 10), 55, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
	} {
		if got := PickMerge(c.parts, c.room); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: picked %v; want %v", c.name, got, c.want)
		}
	}
}

// TestPickMergeBoundsPartsAndRewrites plays a month of flushes of one hour.
func TestPickMergeBoundsPartsAndRewrites(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var parts []PartInfo
	var flushed, rewritten int64
	for range 720 {
		n := 20_000_000 + rng.Int64N(10_000_000)
		flushed += n
		parts = append(parts, PartInfo{Rows: n, SizeBytes: n / 2})
		for picked := PickMerge(parts, 1<<60); picked != nil; picked = PickMerge(parts, 1<<60) {
			var sum PartInfo
			for i := len(picked) - 1; i >= 0; i-- {
				sum.Rows += parts[picked[i]].Rows
				sum.SizeBytes += parts[picked[i]].SizeBytes
				parts = append(parts[:picked[i]], parts[picked[i]+1:]...)
			}
			rewritten += sum.Rows
			parts = append(parts, sum)
		}
		if len(parts) > 30 {
			t.Fatalf("%d parts", len(parts))
		}
	}
	if rewritten > 3*flushed {
		t.Errorf("each sample was rewritten %.1f times", float64(rewritten)/float64(flushed))
	}
}

func TestPickExpired(t *testing.T) {
	parts := []PartInfo{{MinTimestamp: 0, MaxTimestamp: 9}, {MinTimestamp: 5, MaxTimestamp: 10}, {MinTimestamp: 10, MaxTimestamp: 20}, {MinTimestamp: 1, MaxTimestamp: 2}}
	if got, want := PickExpired(parts, model.TimeRange{Min: 10, Max: 1 << 60}), []int{0, 3}; !reflect.DeepEqual(got, want) {
		t.Errorf("picked %v; want %v", got, want)
	}
}

func testManifest() *manifest {
	return &manifest{nextSeq: 300, parts: []manifestPart{
		{name: "0000000000000001", blocks: 3, PartInfo: PartInfo{Rows: 1000, SizeBytes: 70_000, MinTimestamp: 1_700_000_000_000, MaxTimestamp: 1_700_000_900_000}},
		{name: "00000000000000ff", blocks: 1, PartInfo: PartInfo{Rows: 1, SizeBytes: 200, MinTimestamp: -5, MaxTimestamp: -5}},
	}}
}

func TestManifestGolden(t *testing.T) {
	path := filepath.Join("testdata", "manifest.golden")
	data := testManifest().AppendTo(nil)
	if update() {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != string(want) {
		t.Errorf("the bytes of a MANIFEST have changed to %x; want %x: raise the version instead", data, want)
	}
	m, err := parseManifest(want)
	if err != nil || !reflect.DeepEqual(m, testManifest()) {
		t.Errorf("parsed %+v, %v", m, err)
	}
}

func TestManifestDamage(t *testing.T) {
	data := testManifest().AppendTo(nil)
	for i := range data {
		for _, flip := range []byte{1, 0x80} {
			bad := append([]byte(nil), data...)
			bad[i] ^= flip
			if _, err := parseManifest(bad); errkind.Of(err) != errkind.Corrupt {
				t.Fatalf("byte %d changed: error %v; want kind corrupt", i, err)
			}
		}
		if _, err := parseManifest(data[:i]); errkind.Of(err) != errkind.Corrupt {
			t.Fatalf("cut at %d: error %v; want kind corrupt", i, err)
		}
	}
	newer := append([]byte(nil), data[:len(data)-4]...)
	newer[len(manifestMagic)]++
	if _, err := parseManifest(seal(newer)); errkind.Of(err) != errkind.Unsupported {
		t.Errorf("later version: error %v; want kind unsupported", err)
	}
}

func seal(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(body, codec.Checksum(body))
}

func FuzzParseManifest(f *testing.F) {
	data := testManifest().AppendTo(nil)
	f.Add(data[:len(data)-4])
	f.Add([]byte(manifestMagic + "\x01\x00\x00"))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := parseManifest(seal(body))
		if err != nil {
			return
		}
		again, err := parseManifest(m.AppendTo(nil))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}
