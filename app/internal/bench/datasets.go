package bench

import (
	"fmt"
	"os"
	"path/filepath"
)

// DatasetNames describes the named datasets.
const DatasetNames = "a (100 hosts x 480 scrapes, 109,800 series), b (a with churn), c (1 M series x 6 scrapes, the first of which is measured apart), " +
	"d (12 hosts x 24 hours), e (a of an hour, the first scrape of which is measured apart), a-late (a with every timestamp jittered), churn (a with a tenth of the series replaced every 10 scrapes), " +
	"and of the corpora " + CorpusSets

// namedDataset returns the options of a named dataset.
func namedDataset(name string) (GenerateOptions, bool) {
	o := DefaultGenerateOptions()
	switch name {
	case "a":
	case "b":
		o.Churn = 0.1
	case "churn":
		o.Churn, o.ChurnEvery = 0.1, 10
	case "c":
		o.Hosts, o.Scrapes, o.PhaseAt = 911, 6, 1
	case "d":
		o.Hosts, o.Scrapes = 12, 24*3600/scrapeSeconds
	case "e":
		o.Scrapes, o.PhaseAt = 240, 1
	case "a-late":
		o.Late = 1
	default:
		return o, false
	}
	return o, true
}

// openDataset returns the folder and the manifest of a dataset, which is a name or a folder.
// A named dataset is generated if it is not there yet.
func (o *RunOptions) openDataset(name string) (string, *Manifest, error) {
	if _, ok := corpusExporters(name); ok {
		return o.openCorpus(name)
	}
	g, ok := namedDataset(name)
	if !ok {
		m, err := LoadManifest(name)
		if err != nil {
			err = fmt.Errorf("%w; or name one of the datasets %s", err, DatasetNames)
		}
		return name, m, err
	}
	if o.Hosts > 0 {
		g.Hosts = o.Hosts
	}
	if o.Scrapes > 0 {
		g.Scrapes = o.Scrapes
	}
	g.End, g.Seed = o.End, o.Seed
	g.Dir = filepath.Join(o.Dir, "datasets", fmt.Sprintf("%s-%dx%d-seed%d", name, g.Hosts, g.Scrapes, g.Seed))
	if _, err := os.Stat(filepath.Join(g.Dir, manifestFile)); err == nil && o.End == 0 {
		m, err := LoadManifest(g.Dir)
		return g.Dir, m, err
	}
	o.logf("generating dataset %s in %s", name, g.Dir)
	m, err := Generate(g)
	return g.Dir, m, err
}

// openCorpus returns the folder and the manifest of a corpus, which is written if it is not there yet.
func (o *RunOptions) openCorpus(set string) (string, *Manifest, error) {
	c := CorpusOptions{Set: set, Nodes: 20, Scrapes: 240, Seed: o.Seed, End: o.End}
	if o.Hosts > 0 {
		c.Nodes = o.Hosts
	}
	if o.Scrapes > 0 {
		c.Scrapes = o.Scrapes
	}
	c.Dir = filepath.Join(o.Dir, "datasets", fmt.Sprintf("%s-%dx%d-seed%d", set, c.Nodes, c.Scrapes, c.Seed))
	if _, err := os.Stat(filepath.Join(c.Dir, manifestFile)); err == nil && o.End == 0 {
		m, err := LoadManifest(c.Dir)
		return c.Dir, m, err
	}
	o.logf("writing corpus %s to %s", set, c.Dir)
	m, err := Corpus(c)
	return c.Dir, m, err
}
