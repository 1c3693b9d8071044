package part

import (
	"bufio"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"path/filepath"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

// Writer writes a part. After an error of any method only Abort may be called.
type Writer struct {
	fs      vfs.FS
	dir     string
	values  *columnWriter
	times   *columnWriter
	index   indexBuilder
	columns columnTable
	recent  recentColumns
	meta    Meta
	lastMin int64 // of the current series
}

// NewWriter creates the directory dir, whose parent must exist, for a new part. End with Finish or Abort.
func NewWriter(fsys vfs.FS, dir string) (*Writer, error) {
	w := &Writer{fs: fsys, dir: dir}
	w.meta = Meta{Version: formatVersion, MinTimestamp: math.MaxInt64, MaxTimestamp: math.MinInt64}
	err := fsys.MkdirAll(dir)
	if err == nil {
		w.values, err = newColumnWriter(fsys, dir, valuesName)
	}
	if err == nil {
		w.times, err = newColumnWriter(fsys, dir, timestampsName)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot create part %s: %w", dir, err), w.Abort())
	}
	return w, nil
}

// AddBlock adds a block, whose columns are copied. Blocks of a series come
// together and by MinTimestamp; the order of the series is the caller's.
func (w *Writer) AddBlock(id uint32, b *tsblock.Block) error {
	invariants.Check(b.Count > 0 && b.Count <= tsblock.MaxSamplesPerBlock && b.MinTimestamp <= b.MaxTimestamp && len(b.Timestamps) > 0 && len(b.Values) > 0,
		"block %s added to part %s", b, w.dir)
	x := &w.index
	if n := len(x.ids); n == 0 || x.ids[n-1] != id {
		if uint64(len(x.blockColumn)) > math.MaxUint32-2 {
			return errkind.New(errkind.Internal, "cannot add block to part %s: it has %d blocks already", w.dir, len(x.blockColumn))
		}
		x.ids = append(x.ids, id)
		x.extraBlocks = append(x.extraBlocks, uint32(len(x.blockColumn)-n))
		w.lastMin = b.MinTimestamp
	}
	invariants.Check(b.MinTimestamp >= w.lastMin, "block %s of series %d added after one from %d", b, id, w.lastMin)
	w.lastMin = b.MinTimestamp
	column, err := w.addColumn(b)
	if err != nil {
		return err
	}
	if err := w.addValues(b.Values); err != nil {
		return err
	}
	x.blockColumn = append(x.blockColumn, column)
	switch b.Content() {
	case tsblock.Raw, tsblock.Kept: // the others are about samples which are gone
		w.meta.Rows += int64(b.Count)
	case tsblock.Histograms:
		w.meta.Rows += int64(b.Count)
		w.meta.Histograms += int64(b.Count)
	}
	w.meta.MinTimestamp = min(w.meta.MinTimestamp, b.MinTimestamp)
	w.meta.MaxTimestamp = max(w.meta.MaxTimestamp, b.MaxTimestamp)
	return nil
}

// addValues writes the values of the next block, unless an equal column has been written lately.
func (w *Writer) addValues(column []byte) error {
	x := &w.index
	const worthwhile = 4 // bytes; a reference takes about as much as a smaller column
	if len(column) >= worthwhile {
		slot := w.recent.slot(column)
		if slot.key == w.recent.key {
			x.addRepeat(slot.column)
			return nil
		}
		*slot = recentColumn{key: w.recent.key, column: uint32(len(x.valueSizes))}
	}
	x.valueSizes = append(x.valueSizes, uint32(len(column)))
	return w.values.write(column)
}

// addColumn returns the number of the column of timestamps, which it writes unless an equal one is at hand.
func (w *Writer) addColumn(b *tsblock.Block) (uint32, error) {
	x := &w.index
	span := uint64(b.MaxTimestamp) - uint64(b.MinTimestamp)
	if c, ok := w.columns.find(b.Timestamps); ok && x.columnCount[c] == uint16(b.Count) && x.columnMin[c] == uint64(b.MinTimestamp) && x.columnSpan[c] == span {
		return c, nil
	}
	c := uint32(len(x.columnSizes))
	if err := w.times.write(b.Timestamps); err != nil {
		return 0, err
	}
	w.columns.add(b.Timestamps, c)
	x.columnSizes = append(x.columnSizes, uint32(len(b.Timestamps)))
	x.columnMin = append(x.columnMin, uint64(b.MinTimestamp))
	x.columnSpan = append(x.columnSpan, span)
	x.columnCount = append(x.columnCount, uint16(b.Count))
	return c, nil
}

// SetApplied sets Meta.Applied.
func (w *Writer) SetApplied(applied map[string]int64) { w.meta.Applied = applied }

// Finish writes the index and meta.json. When it returns, the files and
// the names in the directory are durable; renaming the directory is left to the caller.
func (w *Writer) Finish() (Meta, error) {
	if err := w.finish(); err != nil {
		return Meta{}, fmt.Errorf("cannot finish part %s: %w", w.dir, err)
	}
	return w.meta, nil
}

func (w *Writer) finish() error {
	times, err := w.times.finish()
	if err != nil {
		return err
	}
	values, err := w.values.finish()
	if err != nil {
		return err
	}
	data, err := w.index.appendTo(nil, w.values.crcs, w.times.crcs)
	if err != nil {
		return err
	}
	if err := w.writeFile(blocksName, data); err != nil {
		return err
	}
	blocks := FileMeta{Name: blocksName, SizeBytes: int64(len(data)), CRC32C: formatCRC(codec.Checksum(data))}
	m := &w.meta
	m.Files = []FileMeta{times, values, blocks}
	m.SizeBytes = times.SizeBytes + values.SizeBytes + blocks.SizeBytes
	m.Series, m.Blocks, m.Columns = int64(len(w.index.ids)), int64(len(w.index.blockColumn)), int64(len(w.index.columnSizes))
	if m.Rows == 0 {
		m.MinTimestamp, m.MaxTimestamp = 0, 0
	}
	if data, err = m.marshal(); err != nil {
		return err
	}
	if err := w.writeFile(MetaName, data); err != nil {
		return err
	}
	return w.fs.SyncDir(w.dir)
}

func (w *Writer) writeFile(name string, data []byte) error {
	f, err := w.fs.Create(filepath.Join(w.dir, name))
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}

// Abort closes and deletes what has been written. It may be called at any
// time, but after a successful Finish it deletes the part.
func (w *Writer) Abort() error {
	var errs []error
	for _, c := range []*columnWriter{w.values, w.times} {
		if c != nil {
			errs = append(errs, c.close())
		}
	}
	return errors.Join(append(errs, w.fs.RemoveAll(w.dir))...)
}

// columnWriter writes a file of columns and its checksums.
type columnWriter struct {
	name string
	file vfs.File // nil when closed
	buf  *bufio.Writer
	size int64
	crc  uint32   // of the file
	last uint32   // of the current chunk
	crcs []uint32 // of the chunks before

	unsynced int // bytes
}

// syncEvery bounds the bytes which wait in the memory of the system for the end of the part. A large merge
// would otherwise have gigabytes written out at once, and every fsync of the log would wait for them.
const syncEvery = 32 << 20

func newColumnWriter(fsys vfs.FS, dir, name string) (*columnWriter, error) {
	f, err := fsys.Create(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	c := &columnWriter{name: name, file: f, buf: bufio.NewWriterSize(f, chunkSize)}
	return c, c.write([]byte(fileHeader(name)))
}

func (c *columnWriter) write(b []byte) error {
	if _, err := c.buf.Write(b); err != nil {
		return err
	}
	if c.unsynced += len(b); c.unsynced >= syncEvery {
		c.unsynced = 0
		if err := c.flush(); err != nil {
			return err
		}
	}
	c.crc = codec.UpdateChecksum(c.crc, b)
	for len(b) > 0 {
		n := min(len(b), int(chunkSize-c.size%chunkSize))
		c.last = codec.UpdateChecksum(c.last, b[:n])
		c.size += int64(n)
		b = b[n:]
		if c.size%chunkSize == 0 {
			c.crcs = append(c.crcs, c.last)
			c.last = 0
		}
	}
	return nil
}

func (c *columnWriter) finish() (FileMeta, error) {
	if c.size%chunkSize != 0 {
		c.crcs = append(c.crcs, c.last)
	}
	if err := c.flush(); err != nil {
		return FileMeta{}, err
	}
	return FileMeta{Name: c.name, SizeBytes: c.size, CRC32C: formatCRC(c.crc)}, c.close()
}

// flush makes durable what was written so far.
func (c *columnWriter) flush() error {
	if err := c.buf.Flush(); err != nil {
		return err
	}
	return c.file.Sync()
}

func (c *columnWriter) close() error {
	if c.file == nil {
		return nil
	}
	f := c.file
	c.file = nil
	return f.Close()
}

// recentColumns finds columns of values which have been written before. Equal ones are near each other as a
// rule (metrics which say the same, labels which make no difference), so a newer column displaces an older
// one of the same place. Columns are known by 128 bits of keyed hashes: the seeds are random,
// so nobody can make two columns collide, and by chance it does not happen.
type recentColumns struct {
	seeds [2]maphash.Seed
	slots []recentColumn
	key   [2]uint64 // of the column last looked for
}

type recentColumn struct {
	key    [2]uint64
	column uint32
}

const recentSlots = 1 << 14 // 400 KiB

// slot returns the only place where the column may be, and sets key.
func (r *recentColumns) slot(column []byte) *recentColumn {
	if r.slots == nil {
		r.slots = make([]recentColumn, recentSlots)
		r.seeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}
	}
	r.key = [2]uint64{maphash.Bytes(r.seeds[0], column), maphash.Bytes(r.seeds[1], column)}
	return &r.slots[r.key[0]%recentSlots]
}

// columnTable finds equal columns among those written before. It is bounded: when
// full it keeps what it has, which serves series that come round again and again
// in the same order, until most of what comes is new to it; then it starts over.
type columnTable struct {
	byBytes map[string]uint32
	bytes   int
	misses  int // since it is full
}

const (
	tableMaxBytes   = 32 << 20
	tableMaxColumns = 128 << 10
)

func (t *columnTable) find(column []byte) (uint32, bool) {
	c, ok := t.byBytes[string(column)]
	return c, ok
}

func (t *columnTable) add(column []byte, c uint32) {
	if t.bytes >= tableMaxBytes || len(t.byBytes) >= tableMaxColumns {
		if t.misses++; t.misses < 4*len(t.byBytes) {
			return
		}
		*t = columnTable{}
	}
	if t.byBytes == nil {
		t.byBytes = make(map[string]uint32)
	}
	t.byBytes[string(column)] = c
	t.bytes += len(column)
}
