package index

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/RoaringBitmap/roaring/v2"

	"vmcluster/lib/metrics"
	"vmcluster/lib/vfs"
)

const dayMagic = "vmclday" // followed by the version byte

// dayTable holds the series active on each day.
type dayTable struct {
	fs    vfs.FS
	dir   string
	marks *metrics.Counter         // days of series
	union atomic.Pointer[dayUnion] // the one asked for last; nil after a change
	mu    struct {
		sync.RWMutex
		days map[int32]*dayBits
	}
}

type dayBits struct {
	ids   *roaring.Bitmap
	dirty bool  // differs from the file
	size  int64 // of the file
}

func (t *dayTable) mark(id uint32, day int32) {
	t.mu.RLock()
	d := t.mu.days[day]
	known := d != nil && d.ids.Contains(id)
	t.mu.RUnlock()
	if known {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if d = t.mu.days[day]; d == nil {
		d = &dayBits{ids: roaring.New()}
		t.mu.days[day] = d
	}
	if d.ids.CheckedAdd(id) {
		d.dirty = true
		t.marks.Inc()
	}
	t.union.Store(nil)
}

// dayUnion is the series active in a range of days.
type dayUnion struct {
	first, last int32
	ids         *roaring.Bitmap
}

// active returns all ids that are active on a day in [first, last]. Nobody may change them.
func (t *dayTable) active(first, last int32) *roaring.Bitmap {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if u := t.union.Load(); u != nil && u.first == first && u.last == last {
		return u.ids
	}
	found := roaring.New()
	for day, d := range t.mu.days {
		if day >= first && day <= last {
			found.Or(d.ids)
		}
	}
	// While the lock is held no day changes, so what is remembered is right.
	t.union.Store(&dayUnion{first: first, last: last, ids: found})
	return found
}

// dirty returns copies of the days that differ from their files and takes them for written.
func (t *dayTable) dirty() map[int32]*roaring.Bitmap {
	t.mu.Lock()
	defer t.mu.Unlock()
	dirty := map[int32]*roaring.Bitmap{}
	for day, d := range t.mu.days {
		if d.dirty {
			d.dirty = false
			dirty[day] = d.ids.Clone()
		}
	}
	return dirty
}

// redirty gives back days that could not be written.
func (t *dayTable) redirty(days map[int32]*roaring.Bitmap) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for day := range days {
		t.mu.days[day].dirty = true
	}
}

// save writes the days and makes them durable. It removes from days what it has written.
func (t *dayTable) save(days map[int32]*roaring.Bitmap) error {
	for day, ids := range days {
		data, err := appendDay(nil, day, ids)
		if err != nil {
			return err
		}
		if err := vfs.WriteFileDurable(t.fs, t.path(day), data); err != nil {
			return err
		}
		t.mu.Lock()
		t.mu.days[day].size = int64(len(data))
		t.mu.Unlock()
		delete(days, day)
	}
	return nil
}

// files returns the days which have a durable file, ascending.
func (t *dayTable) files() []int32 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var days []int32
	for day, d := range t.mu.days {
		if d.size > 0 {
			days = append(days, day)
		}
	}
	slices.Sort(days)
	return days
}

func (t *dayTable) path(day int32) string {
	return filepath.Join(t.dir, dayName(day))
}

// appendDay appends the file of a day. It may reorganise ids.
func appendDay(dst []byte, day int32, ids *roaring.Bitmap) ([]byte, error) {
	start := len(dst)
	dst = append(dst, dayMagic...)
	dst = append(dst, formatVersion)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(day))
	return sealBitmap(dst, start, ids)
}

// sealBitmap appends a bitmap, which it may reorganise, and the checksum of all from start on.
func sealBitmap(dst []byte, start int, ids *roaring.Bitmap) ([]byte, error) {
	ids.RunOptimize()
	data, err := ids.ToBytes()
	if err != nil {
		return nil, err
	}
	dst = append(dst, data...)
	return binary.LittleEndian.AppendUint32(dst, checksum(dst[start:])), nil
}

func decodeDay(data []byte, path string) (int32, *roaring.Bitmap, error) {
	head, ids, err := openBitmap(data, path, dayMagic, 4)
	if err != nil {
		return 0, nil, err
	}
	return int32(binary.LittleEndian.Uint32(head)), ids, nil
}

// openBitmap reads a file that sealBitmap has finished: magic, version, extra bytes, bitmap, checksum.
func openBitmap(data []byte, path, magic string, extra int) (head []byte, ids *roaring.Bitmap, err error) {
	n, start := len(data)-4, len(magic)+1
	if n < start+extra || string(data[:len(magic)]) != magic {
		return nil, nil, corrupt(path, "header")
	}
	if checksum(data[:n]) != binary.LittleEndian.Uint32(data[n:]) {
		return nil, nil, corrupt(path, "contents: wrong checksum")
	}
	if v := data[len(magic)]; v != formatVersion {
		return nil, nil, unknownVersion(path, v, formatVersion)
	}
	ids, ok := decodeBitmap(data[start+extra : n])
	if !ok {
		return nil, nil, corrupt(path, "bitmap")
	}
	return data[start : start+extra], ids, nil
}

// isDayName reports whether name is that of a finished file of active days.
func isDayName(name string) bool {
	return strings.HasPrefix(name, dayPrefix) && !strings.HasSuffix(name, tempSuffix) && !strings.HasSuffix(name, corruptSuffix)
}

// parseDayName returns the day in the name of a file; false when we give no such name.
func parseDayName(name string) (int32, bool) {
	day, err := strconv.ParseInt(strings.TrimPrefix(name, dayPrefix), 10, 32)
	return int32(day), err == nil && dayName(int32(day)) == name
}

func dayName(day int32) string { return dayPrefix + strconv.Itoa(int(day)) }

// load reads all day files and returns the names of damaged ones, and of those in listed which are missing.
func (t *dayTable) load(listed []int32) (damaged map[string]error, err error) {
	t.mu.days = map[int32]*dayBits{}
	entries, err := t.fs.ReadDir(t.dir)
	if err != nil {
		return nil, err
	}
	damaged = map[string]error{}
	for _, e := range entries {
		if !isDayName(e.Name) {
			continue
		}
		path := filepath.Join(t.dir, e.Name)
		data, err := t.fs.ReadFile(path)
		if err != nil {
			return nil, err
		}
		day, ids, err := decodeDay(data, path)
		if err == nil && t.path(day) != path {
			err = corrupt(path, "header: the day does not fit the name")
		}
		switch {
		case err == nil:
			t.mu.days[day] = &dayBits{ids: ids, size: e.Size}
		case isDamage(err):
			damaged[e.Name] = err
		default:
			return nil, err
		}
	}
	for _, day := range listed {
		if _, bad := damaged[dayName(day)]; t.mu.days[day] == nil && !bad {
			damaged[dayName(day)] = fmt.Errorf("cannot find it, though it is listed: %w", fs.ErrNotExist)
		}
	}
	return damaged, nil
}

// end returns a number above all ids in the table.
func (t *dayTable) end() uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	end := uint64(0)
	for _, d := range t.mu.days {
		end = max(end, endOf(d.ids))
	}
	return end
}

// heapBytes returns about how much memory the days take.
func (t *dayTable) heapBytes() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := int64(0)
	for _, d := range t.mu.days {
		n += int64(d.ids.GetSizeInBytes())
	}
	if u := t.union.Load(); u != nil {
		n += int64(u.ids.GetSizeInBytes())
	}
	return n
}

func (t *dayTable) size() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := int64(0)
	for _, d := range t.mu.days {
		n += d.size
	}
	return n
}

// flush writes the given days; those it cannot write stay dirty.
func (t *dayTable) flush(days map[int32]*roaring.Bitmap) error {
	err := t.save(days)
	if err != nil {
		t.redirty(days)
	}
	return err
}
