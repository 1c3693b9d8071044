package storage

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"vmcluster/lib/codec"
	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
)

const (
	seriesLimitsFile    = "series_limits"
	seriesLimitsMagic   = "vmsl"
	seriesLimitsVersion = 1
)

// seenSeries is what a file knows of one limit.
type seenSeries struct {
	seconds int64 // length of a period
	period  int64 // since 1970
	hashes  []byte
}

// AppendTo appends the contents of the file.
func (l *seriesLimits) AppendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, seriesLimitsMagic...)
	dst = append(dst, seriesLimitsVersion)
	dst = codec.AppendUvarint(dst, uint64(len(l.limits)))
	for _, n := range l.limits {
		n.mu.RLock()
		period, hashes := n.mu.period, slices.AppendSeq(make([]uint64, 0, len(n.mu.seen)), maps.Keys(n.mu.seen))
		n.mu.RUnlock()
		slices.Sort(hashes)
		dst = codec.AppendUvarint(dst, uint64(n.seconds))
		dst = codec.AppendVarint(dst, period)
		dst = codec.AppendUvarint(dst, uint64(len(hashes)))
		dst = slices.Grow(dst, 8*len(hashes)+4)
		for _, h := range hashes {
			dst = binary.LittleEndian.AppendUint64(dst, h)
		}
	}
	return binary.LittleEndian.AppendUint32(dst, codec.Checksum(dst[start:]))
}

// parseSeenSeries reads a file. What it returns aliases src. Errors are of kind Corrupt or Unsupported.
func parseSeenSeries(src []byte) ([]seenSeries, error) {
	const header = len(seriesLimitsMagic) + 1
	if len(src) < header+4 || string(src[:len(seriesLimitsMagic)]) != seriesLimitsMagic {
		return nil, errkind.New(errkind.Corrupt, "it does not start with %q", seriesLimitsMagic)
	}
	body, sum := src[:len(src)-4], binary.LittleEndian.Uint32(src[len(src)-4:])
	if got := codec.Checksum(body); got != sum {
		return nil, errkind.New(errkind.Corrupt, "its checksum is %08x; want %08x", got, sum)
	}
	if v := src[len(seriesLimitsMagic)]; v != seriesLimitsVersion {
		return nil, errkind.New(errkind.Unsupported, "it has version %d and this program knows %d", v, seriesLimitsVersion)
	}
	count, tail, err := codec.CutUvarint(body[header:])
	if err != nil {
		return nil, err
	}
	var list []seenSeries
	for range count {
		x, rest, err := cutSeenSeries(tail)
		if err != nil {
			return nil, err
		}
		list, tail = append(list, x), rest
	}
	if len(tail) > 0 {
		return nil, errkind.New(errkind.Corrupt, "%d bytes follow the last limit", len(tail))
	}
	return list, nil
}

func cutSeenSeries(src []byte) (x seenSeries, tail []byte, err error) {
	seconds, tail, err := codec.CutUvarint(src)
	if err != nil {
		return x, nil, err
	}
	x.seconds = int64(seconds)
	if x.period, tail, err = codec.CutVarint(tail); err != nil {
		return x, nil, err
	}
	n, tail, err := codec.CutUvarint(tail)
	if err != nil {
		return x, nil, err
	}
	if n > uint64(len(tail))/8 {
		return x, nil, errkind.New(errkind.Corrupt, "%d bytes follow where %d series are said to", len(tail), n)
	}
	x.hashes = tail[:8*n]
	return x, tail[8*n:], nil
}

func (s *Storage) seriesLimitsPath() string { return filepath.Join(s.cfg.DataPath, seriesLimitsFile) }

// loadSeriesLimits takes over which series the last process had in the periods which still last. Damage costs
// that knowledge, not the start.
func (s *Storage) loadSeriesLimits() error {
	if s.limits == nil {
		return nil
	}
	data, err := s.fs.ReadFile(s.seriesLimitsPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	list, err := parseSeenSeries(data)
	if err != nil {
		s.logger.Errorf("series are counted anew for -storage.maxHourlySeries and -storage.maxDailySeries, since %s cannot be used: %s", s.seriesLimitsPath(), err)
		return nil
	}
	now := s.o.Now().Unix()
	for _, n := range s.limits.limits {
		for _, x := range list {
			if x.seconds != n.seconds || x.period != now/n.seconds {
				continue
			}
			for h := x.hashes; len(h) > 0; h = h[8:] {
				n.pass(now, binary.LittleEndian.Uint64(h))
			}
		}
	}
	return nil
}

// saveSeriesLimits writes which series there were in the current periods, before the log forgets about samples.
func (s *Storage) saveSeriesLimits() {
	if s.limits == nil {
		return
	}
	if err := vfs.WriteFileDurable(s.fs, s.seriesLimitsPath(), s.limits.AppendTo(nil)); err != nil {
		s.logger.Warnf("cannot save which series have come in this hour and this day, so that they would be counted anew after a restart: %s", err)
	}
}
