package s3api

import (
	"encoding/base64"
	"strconv"
	"strings"

	"cairn"
	"cairn/iam"
	"cairn/meta"
	"cairn/object"
	"cairn/s3api/sigv4"
)

// maxPage is the most that one page of a listing holds.
const maxPage = 1000

// pageSize reads max-keys and its relatives: at most max, and max if it is not given.
func (c *call) pageSize(param string, max, min int) (int, error) {
	s, ok := c.query.lookup(param)
	if !ok || s == "" {
		return max, nil
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || int(n) < min {
		message := "Provided " + param + " not an integer or within integer range"
		if err == nil {
			message = "Argument " + param + " must be an integer between " + strconv.Itoa(min) + " and 2147483647"
		}
		return 0, errInvalidArgument.with(message, field{"ArgumentName", param}, field{"ArgumentValue", s})
	}
	return int(n), nil
}

// encodingType reads encoding-type: only "url" exists.
func (c *call) encodingType() (url bool, err error) {
	switch s := c.query.get("encoding-type"); s {
	case "":
		return false, nil
	case "url":
		return true, nil
	default:
		return false, errInvalidArgument.with("Invalid Encoding Method specified in Request",
			field{"ArgumentName", "encoding-type"}, field{"ArgumentValue", s})
	}
}

// A continuation token is the last name of a page, made opaque. It comes back from clients, so its form is checked.
const tokenMark = "1"

func encodeToken(after string) string {
	return tokenMark + base64.RawURLEncoding.EncodeToString([]byte(after))
}

func decodeToken(token string) (string, error) {
	if token == "" {
		return "", nil
	}
	body, ok := strings.CutPrefix(token, tokenMark)
	after, err := base64.RawURLEncoding.DecodeString(body)
	if !ok || err != nil || len(after) > 2*object.MaxKeyBytes {
		return "", errInvalidArgument.with("The continuation token provided is incorrect",
			field{"ArgumentName", "continuation-token"})
	}
	return string(after), nil
}

// listing is a ListObjects request of either version.
type listing struct {
	v2         bool
	owner      bool
	url        bool
	prefix     string
	delimiter  string
	after      string // where the page begins
	marker     string // v1
	token      string // v2
	hasToken   bool
	startAfter string
	max        int
	asked      int
	accounts   accounts // who owns what is listed; nil: the names are not known
}

// accounts finds the owner behind a canonical ID.
type accounts func(id string) iam.Account

func (l *listing) account(id string) iam.Account {
	if l.accounts == nil {
		return iam.Account{ID: id, Name: id}
	}
	return l.accounts(id)
}

func (c *call) readListing(v2 bool) (l listing, err error) {
	l = listing{accounts: c.account, v2: v2, owner: !v2, prefix: c.query.get("prefix"), delimiter: c.query.get("delimiter")}
	if l.asked, err = c.pageSize("max-keys", maxPage, 0); err != nil {
		return l, err
	}
	l.max = min(l.asked, maxPage)
	if l.url, err = c.encodingType(); err != nil {
		return l, err
	}
	if !v2 {
		l.marker = c.query.get("marker")
		l.after = l.marker
		return l, nil
	}
	if s := c.query.get("list-type"); s != "2" {
		return l, errInvalidArgument.with("Invalid List Type specified in Request", field{"ArgumentName", "list-type"},
			field{"ArgumentValue", s})
	}
	l.owner = c.query.get("fetch-owner") == "true"
	l.startAfter = c.query.get("start-after")
	l.token, l.hasToken = c.query.lookup("continuation-token")
	if l.after, err = decodeToken(l.token); err == nil && l.token == "" { // an empty token begins at the beginning, too
		l.after = l.startAfter
	}
	return l, err
}

func (c *call) listObjects() error   { return c.list(false) }
func (c *call) listObjectsV2() error { return c.list(true) }

func (c *call) list(v2 bool) error {
	l, err := c.readListing(v2)
	if err != nil {
		return err
	}
	page, err := c.srv.cfg.Objects.List(c.r.Context(), meta.List{Bucket: c.bucket, Prefix: l.prefix, Delimiter: l.delimiter,
		After: l.after, Max: l.max})
	if err != nil {
		return err
	}
	return c.render(func(b []byte) []byte { return l.append(b, c.bucket, &page) })
}

// append renders the page.
func (l *listing) append(b []byte, bucket string, page *meta.Page) []byte {
	b = append(b, `<ListBucketResult xmlns="`+xmlNamespace+`">`...)
	b = appendElement(b, "Name", bucket)
	b = l.echoPrefix(b)
	if l.v2 {
		b = l.appendV2(b, page)
	} else {
		b = l.name(b, "Marker", l.marker)
		if page.More && l.delimiter != "" {
			b = l.name(b, "NextMarker", page.Next)
		}
	}
	b = appendInt(b, "MaxKeys", int64(l.max))
	if l.delimiter != "" {
		b = l.name(b, "Delimiter", l.delimiter)
	}
	if l.url {
		b = append(b, "<EncodingType>url</EncodingType>"...)
	}
	b = appendBool(b, "IsTruncated", page.More)
	for i := range page.Versions {
		b = l.appendObject(b, &page.Versions[i])
	}
	b = appendPrefixes(b, page.Prefixes, l.url)
	return append(b, "</ListBucketResult>"...)
}

func (l *listing) appendV2(b []byte, page *meta.Page) []byte {
	if l.startAfter != "" {
		b = l.name(b, "StartAfter", l.startAfter)
	}
	if l.hasToken {
		b = appendElement(b, "ContinuationToken", l.token)
	}
	if page.More {
		b = appendElement(b, "NextContinuationToken", encodeToken(page.Next))
	}
	return appendInt(b, "KeyCount", int64(len(page.Versions)+len(page.Prefixes)))
}

// unsafeInV1 are the bytes of a prefix that no client could read back if they were not encoded.
var unsafeInV1 = strings.NewReplacer("%", "%25", "+", "%2B")

// echoPrefix tells the prefix that was asked for. Of ListObjects' first version some clients decode it and some do not: what both
// read alike goes out as it is, and only what decoding would change is encoded.
func (l *listing) echoPrefix(b []byte) []byte {
	if l.v2 || !l.url {
		return l.name(b, "Prefix", l.prefix)
	}
	return appendElement(b, "Prefix", unsafeInV1.Replace(l.prefix))
}

func (l *listing) name(b []byte, element, value string) []byte {
	return appendName(b, element, value, l.url)
}

// appendName appends a key, prefix or delimiter, percent-encoded if the client asked for it ("%20", never "+").
func appendName(b []byte, element, value string, url bool) []byte {
	b = append(b, '<')
	b = append(b, element...)
	b = append(b, '>')
	if url {
		b = sigv4.AppendEscaped(b, value, true)
	} else {
		b = appendText(b, value)
	}
	b = append(b, '<', '/')
	b = append(b, element...)
	return append(b, '>')
}

func (l *listing) appendObject(b []byte, v *meta.Listed) []byte {
	b = append(b, "<Contents>"...)
	b = l.name(b, "Key", v.Key)
	b = append(b, "<LastModified>"...)
	b = v.Modified().AppendFormat(b, timeFormat)
	b = append(b, "</LastModified>"...)
	b = append(b, "<ETag>&quot;"...)
	b = append(v.AppendETag(b), "&quot;</ETag>"...) // hexadecimal digits and a dash: nothing to escape
	if sum := v.Checksum(); sum.Algo != "" {
		b = appendAlgorithm(b, sum)
	}
	b = append(b, "<Size>"...)
	b = strconv.AppendInt(b, v.Size, 10)
	b = append(b, "</Size>"...)
	if l.owner {
		b = appendOwner(b, "Owner", l.account(v.Owner))
	}
	b = appendClass(b, v.Class)
	return append(b, "</Contents>"...)
}

func appendAlgorithms(b []byte, sums []cairn.Checksum) []byte {
	for i := range sums {
		b = appendAlgorithm(b, sums[i])
	}
	return b
}

func appendAlgorithm(b []byte, sum cairn.Checksum) []byte {
	b = append(b, "<ChecksumAlgorithm>"...)
	b = append(b, sum.Algo...)
	b = append(b, "</ChecksumAlgorithm><ChecksumType>"...)
	b = append(b, checksumType(sum)...)
	return append(b, "</ChecksumType>"...)
}

func appendClass(b []byte, class string) []byte {
	if class == "" {
		return append(b, "<StorageClass>STANDARD</StorageClass>"...)
	}
	return appendElement(b, "StorageClass", class)
}

func appendPrefixes(b []byte, prefixes []string, url bool) []byte {
	for _, p := range prefixes {
		b = append(b, "<CommonPrefixes>"...)
		b = appendName(b, "Prefix", p, url)
		b = append(b, "</CommonPrefixes>"...)
	}
	return b
}

// listVersions is ListObjectVersions.
func (c *call) listVersions() error {
	r := meta.ListVersions{Bucket: c.bucket, Prefix: c.query.get("prefix"), Delimiter: c.query.get("delimiter"),
		AfterKey: c.query.get("key-marker"), AfterID: c.query.get("version-id-marker")}
	asked, err := c.pageSize("max-keys", maxPage, 0)
	if err != nil {
		return err
	}
	r.Max = min(asked, maxPage)
	url, err := c.encodingType()
	if err != nil {
		return err
	}
	switch {
	case r.AfterID != "" && r.AfterKey == "":
		return errInvalidArgument.with("A version-id marker cannot be specified without a key marker.",
			field{"ArgumentName", "version-id-marker"}, field{"ArgumentValue", r.AfterID})
	case r.AfterID != "" && r.AfterID != "null":
		if _, err := cairn.ParseVersionID(r.AfterID); err != nil {
			return errInvalidArgument.with("Invalid version id specified", field{"ArgumentName", "version-id-marker"},
				field{"ArgumentValue", r.AfterID})
		}
	case c.query.has("version-id-marker") && r.AfterID == "":
		return errInvalidArgument.with("A version-id marker cannot be empty.", field{"ArgumentName", "version-id-marker"})
	}
	page, err := c.srv.cfg.Objects.ListVersions(c.r.Context(), r)
	if err != nil {
		return err
	}
	return c.render(func(b []byte) []byte { return appendVersions(b, &r, &page, url, c.account) })
}

func appendVersions(b []byte, r *meta.ListVersions, page *meta.VersionPage, url bool, who accounts) []byte {
	b = append(b, `<ListVersionsResult xmlns="`+xmlNamespace+`">`...)
	b = appendElement(b, "Name", r.Bucket)
	b = appendName(b, "Prefix", r.Prefix, url)
	b = appendName(b, "KeyMarker", r.AfterKey, url)
	b = appendElement(b, "VersionIdMarker", r.AfterID)
	if page.More {
		b = appendName(b, "NextKeyMarker", page.NextKey, url)
		if page.NextID != "" {
			b = appendElement(b, "NextVersionIdMarker", page.NextID)
		}
	}
	b = appendInt(b, "MaxKeys", int64(r.Max))
	if r.Delimiter != "" {
		b = appendName(b, "Delimiter", r.Delimiter, url)
	}
	if url {
		b = append(b, "<EncodingType>url</EncodingType>"...)
	}
	b = appendBool(b, "IsTruncated", page.More)
	for i := range page.Versions {
		b = appendVersion(b, &page.Versions[i], i < len(page.Latest) && page.Latest[i], url, who)
	}
	b = appendPrefixes(b, page.Prefixes, url)
	return append(b, "</ListVersionsResult>"...)
}

func appendVersion(b []byte, v *cairn.Version, latest, url bool, who accounts) []byte {
	element := "Version"
	if v.DeleteMarker {
		element = "DeleteMarker"
	}
	b = append(b, '<')
	b = append(b, element...)
	b = append(b, '>')
	b = appendName(b, "Key", v.Key, url)
	b = appendElement(b, "VersionId", shownVersionID(v))
	b = appendBool(b, "IsLatest", latest)
	b = appendTime(b, "LastModified", v.Modified)
	if !v.DeleteMarker {
		b = appendETag(b, v.ETag)
		b = appendAlgorithms(b, v.Checksums)
		b = appendInt(b, "Size", v.Size)
		b = appendClass(b, v.Class)
	}
	b = appendOwner(b, "Owner", who(v.Owner))
	b = append(b, '<', '/')
	b = append(b, element...)
	return append(b, '>')
}
