package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path/filepath"

	"vmcluster/lib/errkind"
	"vmcluster/lib/vfs"
)

const (
	stateName    = "state"
	stateMagic   = "VWLS"
	stateVersion = 1
	stateBytes   = 20
)

// appendState appends the contents of the file which says what the log must have: every segment from first on.
func appendState(dst []byte, first uint64) []byte {
	start := len(dst)
	dst = append(dst, stateMagic...)
	dst = append(dst, stateVersion, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint64(dst, first)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli()))
}

// parseState is the reverse of appendState. Errors are of kind Corrupt or Unsupported.
func parseState(data []byte) (first uint64, err error) {
	if len(data) != stateBytes || string(data[:4]) != stateMagic ||
		crc32.Checksum(data[:stateBytes-4], castagnoli()) != binary.LittleEndian.Uint32(data[stateBytes-4:]) {
		return 0, errkind.New(errkind.Corrupt, "cannot read the state of the log: %d bytes with a wrong checksum", len(data))
	}
	if v := data[4]; v != stateVersion {
		return 0, errkind.New(errkind.Unsupported, "cannot read the state of the log of format version %d: this program knows version %d; run the program which wrote it", v, stateVersion)
	}
	first = binary.LittleEndian.Uint64(data[8:])
	if first == 0 {
		return 0, errkind.New(errkind.Corrupt, "cannot read the state of the log: it names segment 0")
	}
	return first, nil
}

func (l *Log) statePath() string { return filepath.Join(l.dir, stateName) }

// loadFiles finds out which segments there are and which there should be. Behind the newest segment there is always an empty
// file with the next number, its successor, so that the loss of the newest one leaves a gap. A new log gets its first successor here.
func (l *Log) loadFiles() error {
	files, highest, err := listSegments(l.fs, l.dir)
	if err != nil {
		return err
	}
	next := highest + 1 // the number of the next segment
	if n := len(files); n > 0 {
		last := files[n-1]
		next = last.number + 1
		if last.size <= headerBytes { // the successor, or a segment that was about to take its first frame
			next, files = last.number, files[:n-1]
			l.successor = true
		}
	}
	l.mu.segments = files
	if err := l.loadState(next, highest > 0); err != nil {
		return err
	}
	if len(files) == 0 {
		next = max(next, l.first)
	}
	l.beginSegmentLocked(next)
	return nil
}

// loadState reads the state. When it is damaged, the segments that are there are taken for all.
func (l *Log) loadState(next uint64, used bool) error {
	data, err := l.fs.ReadFile(l.statePath())
	if err == nil {
		l.first, err = parseState(data)
	}
	if err == nil || errors.Is(err, fs.ErrPermission) || errkind.Of(err) == errkind.Unsupported {
		return err
	}
	l.first = next
	if len(l.mu.segments) > 0 {
		l.first = l.mu.segments[0].number
	}
	if !used && errors.Is(err, fs.ErrNotExist) {
		if err := l.createSuccessor(l.first); err != nil { // its name is durable with that of the state
			return err
		}
		l.created, l.successor = true, true
		return l.writeState(l.first)
	}
	l.m.damagedState.Inc()
	l.logger.Errorf("file %q is missing or damaged and is written anew; nothing is lost, unless log segments before %d are missing as well: %s", l.statePath(), l.first, err)
	err = l.writeState(l.first)
	if noSpaceIn(err) {
		l.logger.Warnf("cannot write file %q: %s; the next flush does", l.statePath(), err)
		return nil
	}
	return err
}

func (l *Log) writeState(first uint64) error {
	if err := vfs.WriteFileDurable(l.fs, l.statePath(), appendState(nil, first)); err != nil {
		return fmt.Errorf("cannot write the state of the log: %w", err)
	}
	return nil
}

// createSuccessor creates the empty file behind the newest segment. The caller makes its name durable.
func (l *Log) createSuccessor(number uint64) error {
	file, err := l.fs.Create(segmentPath(l.dir, number))
	if err != nil {
		return err
	}
	return file.Close()
}

// restoreSuccessor creates the successor where it was missing, if the disk lets it; the next segment needs none of it.
func (l *Log) restoreSuccessor() error {
	if l.successor {
		return nil
	}
	l.mu.Lock()
	next := l.mu.newest
	l.mu.Unlock()
	if err := l.createSuccessor(next); err != nil {
		if noSpaceIn(err) {
			return nil
		}
		return err
	}
	l.successor = true
	return l.fs.SyncDir(l.dir)
}

// retireState notes that segments before first are not needed any more, before their files go. On a full disk it makes room by
// emptying them, down to the header, with which they count as whole.
func (l *Log) retireState(first uint64, retired []uint64) error {
	err := l.writeState(first)
	if noSpaceIn(err) {
		for _, number := range retired {
			if err := l.fs.Truncate(segmentPath(l.dir, number), headerBytes); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		err = l.writeState(first)
	}
	if err == nil {
		l.first = first
	}
	return err
}
