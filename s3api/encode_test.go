package s3api

import (
	"encoding/xml"
	"fmt"
	"strings"
	"testing"
	"time"

	"cairn"
	"cairn/meta"
)

// parsedList is what a client's XML library makes of a listing.
type parsedList struct {
	XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name     string
	Prefix   string
	MaxKeys  int
	KeyCount int
	Contents []struct {
		Key          string
		LastModified time.Time
		ETag         string
		Size         int64
		StorageClass string
		Owner        struct{ ID string }
	}
	CommonPrefixes []struct{ Prefix string }
	IsTruncated    bool
}

func TestListingSurvivesAParser(t *testing.T) {
	when := time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.UTC)
	keys := []string{`a<b>&"c'd`, "€ uro", " blank ", "new\nline", "tab\t", "a//b/../c", "\U0001F600", "]]>"}
	page := meta.Page{More: true, Next: "z", Prefixes: []string{"p&q/", "r/"}}
	for i, k := range keys {
		page.Versions = append(page.Versions, meta.NewListed(&cairn.Version{Key: k, Size: int64(i) << 40, Modified: when, ETag: "0123", Owner: "me"}))
	}
	l := listing{v2: true, owner: true, prefix: "<&", max: 1000}
	var got parsedList
	if err := xml.Unmarshal(l.append([]byte(xmlHeader), "bucket", &page), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "bucket" || got.Prefix != "<&" || got.KeyCount != len(keys)+2 || !got.IsTruncated || len(got.CommonPrefixes) != 2 ||
		got.CommonPrefixes[0].Prefix != "p&q/" {
		t.Errorf("got %+v", got)
	}
	for i, k := range keys {
		c := got.Contents[i]
		if c.Key != k || c.ETag != `"0123"` || !c.LastModified.Equal(when) || c.Size != int64(i)<<40 || c.Owner.ID != "me" {
			t.Errorf("%q: got %+v", k, c)
		}
	}
	l.url = true
	doc := string(l.append(nil, "bucket", &page))
	if !strings.Contains(doc, "<Key>%20blank%20</Key>") || strings.Contains(doc, "+") || !strings.Contains(doc, "<Key>a//b/../c</Key>") {
		t.Errorf("url-encoded: %s", doc)
	}
}

func FuzzAppendText(f *testing.F) {
	f.Add("a<b>\x01\xff€")
	f.Fuzz(func(t *testing.T, s string) {
		out := string(appendText(nil, s))
		if strings.ContainsAny(out, "<>\"\x00\x01") {
			t.Errorf("%q became %q", s, out)
		}
		clean := strings.Map(func(r rune) rune {
			if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xFFFE || r == 0xFFFF {
				return 'x'
			}
			return r
		}, strings.ToValidUTF8(s, "\uFFFD"))
		var back struct {
			Text string `xml:",chardata"`
		}
		if err := xml.Unmarshal(append(appendText([]byte("<a>"), clean), "</a>"...), &back); err != nil || back.Text != clean {
			t.Errorf("%q came back as %q, %v", clean, back.Text, err)
		}
	})
}

func BenchmarkListing(b *testing.B) {
	page := meta.Page{More: true, Next: "z"}
	for i := range 1000 {
		page.Versions = append(page.Versions, meta.NewListed(&cairn.Version{Key: fmt.Sprintf("models/some-model/shard-%05d.safetensors", i), Size: 1 << 20,
			Modified: time.Now(), ETag: "d41d8cd98f00b204e9800998ecf8427e", Checksums: []cairn.Checksum{{Algo: cairn.CRC64NVME}}}))
	}
	l := listing{v2: true, max: 1000}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = l.append(buf[:0], "bucket", &page)
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
}

func BenchmarkDeleteDocument(b *testing.B) {
	var doc strings.Builder
	doc.WriteString(`<Delete xmlns="` + xmlNamespace + `">`)
	for i := range 1000 {
		fmt.Fprintf(&doc, "<Object><Key>models/some-model/shard-%05d.safetensors</Key></Object>", i)
	}
	doc.WriteString("</Delete>")
	p := []byte(doc.String())
	b.ReportAllocs()
	for b.Loop() {
		var d deleteDoc
		if err := decodeXML(p, "Delete", &d); err != nil || len(d.Objects) != 1000 {
			b.Fatal(err, len(d.Objects))
		}
	}
	b.ReportMetric(float64(b.N)*1000/b.Elapsed().Seconds(), "keys/s")
}
