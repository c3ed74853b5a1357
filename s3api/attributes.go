package s3api

import (
	"net/http"
	"strconv"
	"strings"

	"cairn"
)

// getObjectAttributes tells of a version what the client names in x-amz-object-attributes.
func (c *call) getObjectAttributes() error {
	wanted, err := c.wantedAttributes()
	if err != nil {
		return err
	}
	ref, err := c.ref()
	if err != nil {
		return err
	}
	v, err := c.srv.cfg.Objects.Head(c.r.Context(), ref)
	if err != nil {
		return err
	}
	if v.DeleteMarker {
		return c.markerNotAllowed(&v)
	}
	if err := c.unlockVersion(&v); err != nil {
		return err
	}
	window, err := c.partWindow()
	if err != nil {
		return err
	}
	c.setVersion(&v)
	c.set("Last-Modified", v.Modified.UTC().Format(http.TimeFormat))
	return c.render(func(b []byte) []byte { return appendAttributes(b, &v, wanted, window) })
}

func (c *call) wantedAttributes() (map[string]bool, error) {
	header := strings.Join(c.r.Header["X-Amz-Object-Attributes"], ",")
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(header, ",") {
		switch name = strings.TrimSpace(name); name {
		case "ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize":
			wanted[name] = true
		default:
			return nil, errInvalidArgument.with("Invalid attribute name specified.",
				field{"ArgumentName", "x-amz-object-attributes"}, field{"ArgumentValue", name})
		}
	}
	return wanted, nil
}

// partWindow is which parts a page of GetObjectAttributes shows.
type partWindow struct{ after, max int }

func (c *call) partWindow() (w partWindow, err error) {
	w.max = maxPage
	if s := c.header("X-Amz-Max-Parts"); s != "" {
		n, err := parseOffset(s)
		if err != nil {
			return w, errInvalidArgument.with("", field{"ArgumentName", "x-amz-max-parts"}, field{"ArgumentValue", s})
		}
		w.max = int(min(n, maxPage))
	}
	if s := c.header("X-Amz-Part-Number-Marker"); s != "" {
		n, err := parseOffset(s)
		if err != nil {
			return w, errInvalidArgument.with("", field{"ArgumentName", "x-amz-part-number-marker"}, field{"ArgumentValue", s})
		}
		w.after = int(min(n, 1<<30))
	}
	return w, nil
}

func appendAttributes(b []byte, v *cairn.Version, wanted map[string]bool, window partWindow) []byte {
	b = append(b, `<GetObjectAttributesResponse xmlns="`+xmlNamespace+`">`...)
	if wanted["ETag"] {
		b = appendElement(b, "ETag", v.ETag)
	}
	if wanted["Checksum"] && len(v.Checksums) > 0 {
		b = append(b, "<Checksum>"...)
		b = appendChecksums(b, v.Checksums, true)
		b = append(b, "</Checksum>"...)
	}
	if wanted["ObjectParts"] && len(v.Parts) > 0 {
		b = appendObjectParts(b, v, window)
	}
	if wanted["StorageClass"] {
		b = appendClass(b, v.Class)
	}
	if wanted["ObjectSize"] {
		b = appendInt(b, "ObjectSize", v.Size)
	}
	return append(b, "</GetObjectAttributesResponse>"...)
}

// appendObjectParts lists the parts behind the marker, which is a part's number.
func appendObjectParts(b []byte, v *cairn.Version, window partWindow) []byte {
	b = append(b, "<ObjectParts>"...)
	b = appendInt(b, "PartsCount", int64(len(v.Parts)))
	from := 0
	for from < len(v.Parts) && v.Parts[from].Number <= window.after {
		from++
	}
	shown := v.Parts[from:]
	more := len(shown) > window.max
	if more {
		shown = shown[:window.max]
	}
	b = appendInt(b, "PartNumberMarker", int64(window.after))
	next := window.after
	if len(shown) > 0 {
		next = shown[len(shown)-1].Number
	}
	b = appendInt(b, "NextPartNumberMarker", int64(next))
	b = appendInt(b, "MaxParts", int64(window.max))
	b = appendBool(b, "IsTruncated", more)
	for i := range shown {
		b = append(b, "<Part>"...)
		b = appendElement(b, "PartNumber", strconv.Itoa(shown[i].Number))
		b = appendInt(b, "Size", shown[i].Size)
		b = appendChecksums(b, shown[i].Checksums, false)
		b = append(b, "</Part>"...)
	}
	return append(b, "</ObjectParts>"...)
}
