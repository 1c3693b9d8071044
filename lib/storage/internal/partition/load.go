package partition

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
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
	// acceptedSuffix, behind the name of a part, names a file by which the operator accepts that the part is lost.
	acceptedSuffix = ".accepted"
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
	// The MANIFEST may have been read from memory that a killed process left to the system: it must be
	// durable before anything is deleted for its sake.
	if err := p.o.FS.SyncDir(p.dir); err != nil {
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
		if err := p.loadPart(m.parts[i]); err != nil {
			return err
		}
	}
	accepted, err := p.forgetAccepted()
	if err != nil || !changed && len(accepted) == 0 {
		return err
	}
	if err := p.writeManifest(p.mu.parts); err != nil {
		return err
	}
	for _, path := range accepted {
		if err := p.o.FS.Remove(path); err != nil {
			return err
		}
	}
	return nil
}

// forgetAccepted takes lost parts off the list whose loss the operator has accepted, and returns the files that say so.
func (p *Partition) forgetAccepted() (accepted []string, err error) {
	if len(p.lost) == 0 {
		return nil, nil
	}
	entries, err := p.o.FS.ReadDir(p.partsDir())
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		name, ok := cutSuffix(e.Name, acceptedSuffix)
		i := slices.IndexFunc(p.lost, func(mp manifestPart) bool { return mp.name == name })
		if !ok || i < 0 {
			continue
		}
		p.lost = slices.Delete(p.lost, i, i+1)
		accepted = append(accepted, p.partDir(e.Name))
		p.o.Logger.Warnf("part %s is lost, which was accepted by the file %s; answers are not partial for its sake any more", p.partDir(name), p.partDir(e.Name))
	}
	return accepted, nil
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
		p.o.Stats.CorruptManifests.Inc()
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

// loadPart adds a part to the list. One that is damaged or missing is set aside, and stays listed: so the loss is reported at every
// open, and a copy which the operator puts in its place is served instead of deleted.
func (p *Partition) loadPart(mp manifestPart) error {
	dir := p.partDir(mp.name)
	pt, err := part.Open(p.o.FS, dir)
	if err == nil {
		p.mu.parts = append(p.mu.parts, newEntry(mp.name, pt))
		return nil
	}
	if errkind.Of(err) != errkind.Corrupt && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	p.o.Stats.CorruptParts.Inc()
	p.o.Logger.Errorf("part %s is set aside as %s: its %d samples of %s are not served; put a copy of it from a backup back in its place and restart, or create the file %s to accept the loss: %s",
		dir, dir+corruptSuffix, mp.Rows, model.TimeRange{Min: mp.MinTimestamp, Max: mp.MaxTimestamp}, dir+acceptedSuffix, err)
	if mp.Rows > 0 { // otherwise the MANIFEST was lost, and the part need not have been listed
		p.lost = append(p.lost, mp)
	}
	return p.setAside(dir)
}

func (p *Partition) setAside(dir string) error {
	if _, err := p.o.FS.ReadDir(dir); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing is left of it
	} else if err != nil {
		return err
	}
	to := dir + corruptSuffix
	for n := 2; ; n++ { // what was set aside before stays
		if _, err := p.o.FS.ReadDir(to); errors.Is(err, fs.ErrNotExist) {
			break
		} else if err != nil {
			return err
		}
		to = fmt.Sprintf("%s%s.%d", dir, corruptSuffix, n)
	}
	if err := p.o.FS.Rename(dir, to); err != nil {
		return err
	}
	return p.o.FS.SyncDir(p.partsDir())
}

func newEntry(name string, pt *part.Part) *entry {
	meta := pt.Meta()
	return &entry{Part: pt, histograms: meta.Histograms, manifestPart: manifestPart{name: name, blocks: meta.Blocks, PartInfo: PartInfo{
		Rows: meta.Rows, SizeBytes: meta.SizeBytes, MinTimestamp: meta.MinTimestamp, MaxTimestamp: meta.MaxTimestamp,
	}}}
}

// writeManifest makes the list of parts durable. p.mu must not be held.
func (p *Partition) writeManifest(parts []*entry) error {
	p.mu.RLock()
	m := manifest{nextSeq: p.mu.nextSeq} // a flush may be numbering its part beside a merge
	p.mu.RUnlock()
	for _, e := range parts {
		m.parts = append(m.parts, e.manifestPart)
	}
	m.parts = append(m.parts, p.lost...)
	return vfs.WriteFileDurable(p.o.FS, filepath.Join(p.dir, manifestName), m.AppendTo(nil))
}
