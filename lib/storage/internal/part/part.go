package part

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/invariants"
	"vmcluster/lib/model"
	"vmcluster/lib/tsblock"
	"vmcluster/lib/vfs"
)

// Part is an open part. It is safe for concurrent use.
type Part struct {
	fs     vfs.FS
	dir    string
	meta   Meta
	index  blockIndex
	blocks vfs.Mapping
	values columnReader
	times  columnReader

	refs            atomic.Int64
	deleteOnRelease atomic.Bool
}

// columnReader is a mapped file of columns.
type columnReader struct {
	mapping  vfs.Mapping
	path     string
	verified []atomic.Uint32 // a bit per chunk
}

// Open opens the part in dir and verifies its meta.json and its index. The part
// has one reference, the caller's.
func Open(fsys vfs.FS, dir string) (*Part, error) {
	p := &Part{fs: fsys, dir: dir}
	p.refs.Store(1)
	if err := p.open(); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open part %s: %w", dir, err), p.close())
	}
	return p, nil
}

func (p *Part) open() (err error) {
	defer vfs.CatchFault(debug.SetPanicOnFault(true), &err)
	metaPath := filepath.Join(p.dir, MetaName)
	data, err := p.fs.ReadFile(metaPath)
	if err != nil {
		return openError(metaPath, err)
	}
	if p.meta, err = ParseMeta(data); err != nil {
		return err
	}
	f, err := p.meta.file(blocksName)
	if err != nil {
		return err
	}
	if p.blocks, err = mapFile(p.fs, p.dir, f); err != nil {
		return err
	}
	if crc := formatCRC(codec.Checksum(p.blocks.Bytes())); crc != f.CRC32C {
		return errkind.New(errkind.Corrupt, "cannot read %s: its checksum is %s; want %s", filepath.Join(p.dir, blocksName), crc, f.CRC32C)
	}
	if err := p.values.open(p, valuesName); err != nil {
		return err
	}
	if err := p.times.open(p, timestampsName); err != nil {
		return err
	}
	err = p.index.parse(p.blocks.Bytes(), int64(len(p.values.mapping.Bytes())), int64(len(p.times.mapping.Bytes())))
	if err != nil {
		return err
	}
	if int64(p.index.ids.Len()) != p.meta.Series || int64(p.index.blockColumn.Len()) != p.meta.Blocks {
		return errIndex("its counts are not those of " + MetaName)
	}
	return nil
}

func (c *columnReader) open(p *Part, name string) error {
	f, err := p.meta.file(name)
	if err != nil {
		return err
	}
	if c.mapping, err = mapFile(p.fs, p.dir, f); err != nil {
		return err
	}
	c.setUp(filepath.Join(p.dir, name))
	return nil
}

func (c *columnReader) setUp(path string) {
	c.path = path
	c.verified = make([]atomic.Uint32, (chunksOf(int64(len(c.mapping.Bytes())))+31)/32)
}

// bytes returns size bytes at offset after verifying the chunks they lie in, unless that has been done before.
func (c *columnReader) bytes(offset, size int64, crcs *codec.Packed) ([]byte, error) {
	data := c.mapping.Bytes()
	if offset < headerSize || size <= 0 || offset > int64(len(data)) || size > int64(len(data))-offset {
		return nil, errkind.New(errkind.Corrupt, "cannot read %d bytes at %d of %s: it has %d", size, offset, c.path, len(data))
	}
	last := int((offset + size - 1) / chunkSize)
	for chunk := int(offset / chunkSize); chunk <= last; chunk++ {
		if c.verified[chunk/32].Load()&(1<<(chunk%32)) != 0 {
			continue
		}
		if err := c.verify(chunk, crcs); err != nil {
			return nil, err
		}
	}
	return data[offset : offset+size : offset+size], nil
}

func (c *columnReader) verify(chunk int, crcs *codec.Packed) error {
	data := c.mapping.Bytes()
	start := chunk * chunkSize
	end := min(start+chunkSize, len(data))
	if crc := codec.Checksum(data[start:end]); uint64(crc) != crcs.At(chunk) {
		return errkind.New(errkind.Corrupt, "cannot read bytes %d to %d of %s: their checksum is %08x; want %08x", start, end, c.path, crc, crcs.At(chunk))
	}
	c.verified[chunk/32].Or(1 << (chunk % 32))
	return nil
}

// Meta returns what the part contains.
func (p *Part) Meta() Meta { return p.meta }

// Dir returns the directory of the part.
func (p *Part) Dir() string { return p.dir }

// Acquire adds a reference. The caller must hold one already, or the lock under
// which the last one is given up.
func (p *Part) Acquire() {
	invariants.Check(p.refs.Add(1) > 1, "part %s acquired after its release", p.dir)
}

// Release gives a reference up. The last one closes the part and, after
// DeleteOnRelease, deletes its files; what cannot be deleted is left for the
// next start, which deletes unlisted parts.
func (p *Part) Release() {
	left := p.refs.Add(-1)
	invariants.Check(left >= 0, "part %s released too often", p.dir)
	if left > 0 {
		return
	}
	_ = p.close()
	if p.deleteOnRelease.Load() {
		_ = p.fs.RemoveAll(p.dir)
	}
}

// DeleteOnRelease has the files deleted when the last reference is given up.
func (p *Part) DeleteOnRelease() { p.deleteOnRelease.Store(true) }

func (p *Part) close() error {
	var errs []error
	for _, m := range []vfs.Mapping{p.blocks, p.values.mapping, p.times.mapping} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Series calls yield with the id of every series in part order until it returns false.
func (p *Part) Series(yield func(id uint32) bool) {
	for rank := range p.index.ids.Len() {
		if !yield(uint32(p.index.ids.At(rank))) {
			return
		}
	}
}

// MaxID returns the largest series id; false when there are no series.
func (p *Part) MaxID() (id uint32, ok bool) {
	n := p.index.byID.Len()
	if n == 0 {
		return 0, false
	}
	return uint32(p.index.ids.At(p.index.rankAt(n - 1))), true
}

// OffsetOf returns the file of the part, and the place in it, in which a fault of memory was; false when it was elsewhere.
func (p *Part) OffsetOf(f *vfs.Fault) (path string, offset int64, ok bool) {
	for _, m := range []struct {
		name string
		m    vfs.Mapping
	}{{blocksName, p.blocks}, {valuesName, p.values.mapping}, {timestampsName, p.times.mapping}} {
		if offset, ok := f.OffsetIn(m.m.Bytes()); ok {
			return filepath.Join(p.dir, m.name), offset, true
		}
	}
	return "", 0, false
}

// AppendBlocks appends the blocks of a series which overlap r, by MinTimestamp. They alias
// the mapping. A part without the series adds nothing. An error of kind
// Corrupt names the damaged place; dst is then unchanged.
func (p *Part) AppendBlocks(dst []tsblock.Block, id uint32, r model.TimeRange) ([]tsblock.Block, error) {
	rank, ok := p.index.rankOf(id)
	if !ok {
		return dst, nil
	}
	return p.appendRank(dst, rank, r)
}

func (p *Part) appendRank(dst []tsblock.Block, rank int, r model.TimeRange) ([]tsblock.Block, error) {
	start := len(dst)
	x := &p.index
	block, end, err := x.blocksOf(rank)
	if err != nil {
		return dst, err
	}
	for ; block < end; block++ {
		column, err := x.columnOf(block)
		if err != nil {
			return dst[:start], err
		}
		b := tsblock.Block{MinTimestamp: int64(x.columnMin.At(column))}
		b.MaxTimestamp = b.MinTimestamp + int64(x.columnSpan.At(column))
		if b.MinTimestamp > r.Max {
			break
		}
		if b.MaxTimestamp < r.Min {
			continue
		}
		b.Count = int(x.columnCount.At(column))
		if err := p.readColumns(&b, block, column); err != nil {
			return dst[:start], err
		}
		dst = append(dst, b)
	}
	return dst, nil
}

func (p *Part) readColumns(b *tsblock.Block, block, column int) (err error) {
	offset, size := p.index.timestamps.at(column)
	if b.Timestamps, err = p.times.bytes(offset, size, &p.index.timesCRC); err != nil {
		return err
	}
	values, err := p.index.valuesOf(block)
	if err != nil {
		return err
	}
	offset, size = p.index.values.at(values)
	b.Values, err = p.values.bytes(offset, size, &p.index.valuesCRC)
	return err
}

// Verify reads the whole part and compares all checksums of its columns.
func (p *Part) Verify(ctx context.Context) error {
	for _, f := range []struct {
		reader *columnReader
		crcs   *codec.Packed
	}{{&p.times, &p.index.timesCRC}, {&p.values, &p.index.valuesCRC}} {
		for chunk := range f.crcs.Len() {
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("cannot verify part %s: %w", p.dir, err)
			}
			if err := f.reader.verify(chunk, f.crcs); err != nil {
				return err
			}
		}
	}
	return nil
}
