package partition

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"vmcluster/lib/errkind"
	"vmcluster/lib/model"
	"vmcluster/lib/storage/internal/part"
	"vmcluster/lib/vfs"
)

const (
	tmpSuffix     = ".tmp"
	corruptSuffix = ".corrupt"
)

func cutSuffix(name, suffix string) (string, bool) { return strings.CutSuffix(name, suffix) }

// loadParts opens the parts that the MANIFEST lists and deletes what it does not list.
//
// When the MANIFEST is damaged or missing, every part on disk that opens is taken: an unlisted one
// holds samples that were sent, and those it shares with others are merged away.
func (p *Partition) loadParts() error {
	m, err := p.readManifest()
	if err != nil {
		return err
	}
	onDisk, err := p.cleanPartsDir(m)
	if err != nil {
		return err
	}
	changed := m == nil
	if m == nil {
		m = &manifest{}
		for _, name := range onDisk {
			m.parts = append(m.parts, manifestPart{name: name})
		}
	}
	p.mu.nextSeq = m.nextSeq
	for _, name := range onDisk {
		if seq, err := strconv.ParseUint(name, 16, 64); err == nil {
			p.mu.nextSeq = max(p.mu.nextSeq, seq+1)
		}
	}
	for i := range m.parts {
		ok, err := p.loadPart(m.parts[i])
		if err != nil {
			return err
		}
		changed = changed || !ok
	}
	if !changed {
		return nil
	}
	return p.writeManifest(p.mu.parts)
}

// readManifest returns nil when there is no usable MANIFEST.
func (p *Partition) readManifest() (*manifest, error) {
	path := filepath.Join(p.dir, manifestName)
	data, err := p.o.FS.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data)
	if errkind.Of(err) == errkind.Corrupt {
		p.o.Logger.Errorf("%s is damaged, so every part in %s which is whole will be used: %s", path, p.partsDir(), err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot open partition %s: %w", p.dir, err)
	}
	return m, nil
}

// cleanPartsDir returns the names of the finished parts on disk and deletes leftovers: unfinished parts, and
// those which m does not list.
func (p *Partition) cleanPartsDir(m *manifest) ([]string, error) {
	entries, err := p.o.FS.ReadDir(p.partsDir())
	if err != nil {
		return nil, err
	}
	listed := map[string]bool{}
	if m != nil {
		for i := range m.parts {
			listed[m.parts[i].name] = true
		}
	}
	var names []string
	for _, e := range entries {
		_, unfinished := cutSuffix(e.Name, tmpSuffix)
		finished := validPartName(e.Name)
		if unfinished || finished && m != nil && !listed[e.Name] {
			if err := p.o.FS.RemoveAll(p.partDir(e.Name)); err != nil {
				return nil, err
			}
			continue
		}
		if finished {
			names = append(names, e.Name)
		}
	}
	return names, nil
}

// loadPart adds a part to the list; false when it had to be set aside.
func (p *Partition) loadPart(mp manifestPart) (bool, error) {
	dir := p.partDir(mp.name)
	pt, err := part.Open(p.o.FS, dir)
	if err == nil {
		p.mu.parts = append(p.mu.parts, newEntry(mp.name, pt))
		return true, nil
	}
	if errkind.Of(err) != errkind.Corrupt && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	p.o.Stats.CorruptParts.Inc()
	p.o.Logger.Errorf("part %s is set aside as %s: its %d samples of %s are not served; restore it from a backup and restart: %s",
		dir, dir+corruptSuffix, mp.Rows, model.TimeRange{Min: mp.MinTimestamp, Max: mp.MaxTimestamp}, err)
	if err := p.setAside(dir); err != nil {
		return false, err
	}
	return false, nil
}

func (p *Partition) setAside(dir string) error {
	if _, err := p.o.FS.ReadDir(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing is left of it
	} else if err != nil {
		return err
	}
	to := dir + corruptSuffix
	if err := p.o.FS.RemoveAll(to); err != nil {
		return err
	}
	if err := p.o.FS.Rename(dir, to); err != nil {
		return err
	}
	return p.o.FS.SyncDir(p.partsDir())
}

func newEntry(name string, pt *part.Part) *entry {
	meta := pt.Meta()
	return &entry{Part: pt, manifestPart: manifestPart{name: name, blocks: meta.Blocks, PartInfo: PartInfo{
		Rows: meta.Rows, SizeBytes: meta.SizeBytes, MinTimestamp: meta.MinTimestamp, MaxTimestamp: meta.MaxTimestamp,
	}}}
}

// writeManifest makes the list of parts durable.
func (p *Partition) writeManifest(parts []*entry) error {
	m := manifest{nextSeq: p.mu.nextSeq}
	for _, e := range parts {
		m.parts = append(m.parts, e.manifestPart)
	}
	return vfs.WriteFileDurable(p.o.FS, filepath.Join(p.dir, manifestName), m.AppendTo(nil))
}
