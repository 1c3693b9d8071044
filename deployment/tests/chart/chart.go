package chart

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// Release is what an installation is called. APIs are those that the cluster has besides its own.
type Release struct {
	Name, Namespace string
	APIs            []string
}

// Rendered is what a chart makes of values.
type Rendered struct {
	Manifests []byte // a stream of YAML documents
	Notes     string
}

// Chart is a chart that has been read.
type Chart struct {
	chart *helmchart.Chart
}

// Load reads the chart in dir.
func Load(dir string) (*Chart, error) {
	c, err := loader.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("cannot load chart %s: %w", dir, err)
	}
	return &Chart{c}, nil
}

// Render renders the chart with values over its own.
func (c *Chart) Render(release Release, values map[string]any) (Rendered, error) {
	return c.render(release, values, true)
}

// render leaves out the schema where a test renders many slightly different values, since the schema is compiled each time.
func (c *Chart) render(release Release, values map[string]any, withSchema bool) (Rendered, error) {
	capabilities := chartutil.DefaultCapabilities.Copy()
	capabilities.APIVersions = append(capabilities.APIVersions, release.APIs...)
	options := chartutil.ReleaseOptions{Name: release.Name, Namespace: release.Namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValuesWithSchemaValidation(c.chart, values, options, capabilities, !withSchema)
	if err != nil {
		return Rendered{}, err
	}
	files, err := engine.Engine{}.Render(c.chart, all)
	if err != nil {
		return Rendered{}, err
	}
	var r Rendered
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text := strings.TrimSpace(files[name])
		switch {
		case path.Base(name) == "NOTES.txt":
			r.Notes = files[name]
		case strings.HasPrefix(path.Base(name), "_") || text == "":
		default:
			r.Manifests = fmt.Appendf(r.Manifests, "---\n# %s\n%s\n", name, strings.TrimPrefix(text, "---\n"))
		}
	}
	return r, nil
}

// ReadValues reads a file of values.
func ReadValues(name string) (map[string]any, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	values, err := chartutil.ReadValues(bytes.TrimSpace(text))
	if err != nil {
		return nil, fmt.Errorf("cannot read values %s: %w", name, err)
	}
	return values, nil
}
