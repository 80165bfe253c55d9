package objectstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

const (
	// partSize of a multipart upload, in octets: 10,000 parts of it are 80 GB, which no partition is to have. One part
	// is in memory at a time.
	partSize = 8 << 20
	// attempts the SDK makes, backing off, before an error is returned.
	attempts = 3
	// quiet is how long the server may take to begin an answer.
	quiet = 30 * time.Second
)

// bucket is an S3 bucket, or what is below a prefix in one.
type bucket struct {
	client *s3.Client
	name   string
	prefix string // empty, or with a slash at its end
	where  string
}

var _ Store = (*bucket)(nil)

// openS3 makes a store from s3://bucket/prefix?endpoint=…&region=…&path-style=….
func openS3(ctx context.Context, u *url.URL) (Store, error) {
	if u.Host == "" {
		return nil, fmt.Errorf("object store %q: want s3://BUCKET", u.Redacted())
	}
	if u.User != nil {
		return nil, fmt.Errorf("object store %q: credentials belong into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, not into the URL", u.Redacted())
	}
	query := u.Query()
	for name := range query {
		switch name {
		case "endpoint", "region", "path-style":
		default:
			return nil, fmt.Errorf("object store %q: unknown parameter %q: want endpoint, region, path-style", u.Redacted(), name)
		}
	}
	endpoint := query.Get("endpoint")
	if endpoint != "" {
		if e, err := url.Parse(endpoint); err != nil || e.Host == "" || e.Scheme != "http" && e.Scheme != "https" {
			return nil, fmt.Errorf("object store %q: endpoint %q: want http:// or https:// and a host", u.Redacted(), endpoint)
		}
	}
	pathStyle := false
	if text := query.Get("path-style"); text != "" {
		var err error
		if pathStyle, err = strconv.ParseBool(text); err != nil {
			return nil, fmt.Errorf("object store %q: path-style %q: want true or false", u.Redacted(), text)
		}
	}
	// The SDK's own client, since it is taught the certificate authorities of AWS_CA_BUNDLE.
	client := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = quiet })
	load := []func(*config.LoadOptions) error{
		config.WithRetryMaxAttempts(attempts),
		config.WithHTTPClient(client),
	}
	if region := query.Get("region"); region != "" {
		load = append(load, config.WithRegion(region))
	} else if endpoint != "" {
		load = append(load, config.WithDefaultRegion("us-east-1")) // what servers that have no regions expect
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return nil, fmt.Errorf("object store %q: %w", u.Redacted(), err)
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("object store %q: which region? Add ?region=…, or set AWS_REGION", u.Redacted())
	}
	b := &bucket{name: u.Host, where: u.Redacted()}
	if p := strings.Trim(u.Path, "/"); p != "" {
		if err := checkKey(p); err != nil {
			return nil, fmt.Errorf("object store %q: prefix: %w", u.Redacted(), err)
		}
		b.prefix = p + "/"
	}
	b.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.UsePathStyle = pathStyle
		if endpoint != "" {
			o.BaseEndpoint = aws.String(endpoint)
		}
	})
	return b, nil
}

// Put implements Store. What is longer than a part goes up in parts, which are one object when the last one is there.
func (b *bucket) Put(ctx context.Context, key string, r io.Reader, size int64, c Condition) (string, error) {
	if err := checkKey(key); err != nil {
		return "", err
	}
	etag, err := b.put(ctx, b.prefix+key, sized(r, size), c)
	if err != nil {
		return "", b.failed("put", key, err)
	}
	return etag, nil
}

func (b *bucket) put(ctx context.Context, key string, r io.Reader, c Condition) (string, error) {
	part := make([]byte, partSize)
	n, err := io.ReadFull(r, part)
	if err == nil {
		return b.putParts(ctx, key, part, r, c)
	}
	if !errors.Is(err, io.EOF) && err != io.ErrUnexpectedEOF {
		return "", err
	}
	in := &s3.PutObjectInput{Bucket: &b.name, Key: &key, Body: bytes.NewReader(part[:n]), ContentLength: aws.Int64(int64(n))}
	in.IfNoneMatch, in.IfMatch = c.headers()
	out, err := b.client.PutObject(ctx, in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

func (c Condition) headers() (ifNoneMatch, ifMatch *string) {
	if c.absent {
		return aws.String("*"), nil
	}
	if c.etag != "" {
		return nil, aws.String(c.etag)
	}
	return nil, nil
}

func (b *bucket) putParts(ctx context.Context, key string, part []byte, r io.Reader, c Condition) (etag string, err error) {
	made, err := b.client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{
		Bucket: &b.name, Key: &key, ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
	})
	if err != nil {
		return "", err
	}
	defer func() {
		if err == nil {
			return
		}
		// What was sent costs money until it is aborted, also when ctx is what ended.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), quiet)
		defer cancel()
		_, aborted := b.client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: &key, UploadId: made.UploadId})
		if aborted != nil {
			err = fmt.Errorf("%w (and the upload could not be aborted: %v)", err, aborted)
		}
	}()
	var parts []types.CompletedPart
	for number, n, more := int32(1), len(part), true; more; number++ {
		if number > 1 {
			n, err = io.ReadFull(r, part)
			if more = err == nil; !more && !errors.Is(err, io.EOF) && err != io.ErrUnexpectedEOF {
				return "", err
			}
			if n == 0 {
				break
			}
		}
		out, err := b.client.UploadPart(ctx, &s3.UploadPartInput{
			Bucket: &b.name, Key: &key, UploadId: made.UploadId, PartNumber: aws.Int32(number),
			Body: bytes.NewReader(part[:n]), ContentLength: aws.Int64(int64(n)), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32,
		})
		if err != nil {
			return "", err
		}
		parts = append(parts, types.CompletedPart{
			ETag: out.ETag, PartNumber: aws.Int32(number), ChecksumCRC32: out.ChecksumCRC32,
		})
	}
	in := &s3.CompleteMultipartUploadInput{
		Bucket: &b.name, Key: &key, UploadId: made.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}
	in.IfNoneMatch, in.IfMatch = c.headers()
	out, err := b.client.CompleteMultipartUpload(ctx, in)
	if err != nil {
		return "", err
	}
	return aws.ToString(out.ETag), nil
}

// Get implements Store. What is cut off in the middle is read on from there.
func (b *bucket) Get(ctx context.Context, key string) (io.ReadCloser, Info, error) {
	if err := checkKey(key); err != nil {
		return nil, Info{}, err
	}
	first, cancel := context.WithCancel(ctx)
	out, err := b.client.GetObject(first, &s3.GetObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + key)})
	if err != nil {
		cancel()
		return nil, Info{}, b.failed("get", key, err)
	}
	info := Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified),
	}
	return newResuming(ctx, out.Body, cancel, info.Size, func(ctx context.Context, from int64) (io.ReadCloser, error) {
		out, err := b.client.GetObject(ctx, &s3.GetObjectInput{
			Bucket: &b.name, Key: aws.String(b.prefix + key), IfMatch: out.ETag, Range: aws.String(fmt.Sprintf("bytes=%d-", from)),
		})
		if err != nil {
			return nil, b.failed("get the rest of", key, err)
		}
		if got, want := aws.ToInt64(out.ContentLength), info.Size-from; got != want {
			return nil, errors.Join(fmt.Errorf("get the rest of %s in %s: %d octets where %d were asked for", key, b.where, got, want), out.Body.Close())
		}
		return out.Body, nil
	}), info, nil
}

// Head implements Store.
func (b *bucket) Head(ctx context.Context, key string) (Info, error) {
	if err := checkKey(key); err != nil {
		return Info{}, err
	}
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + key)})
	if err != nil {
		return Info{}, b.failed("look at", key, err)
	}
	return Info{
		Key: key, Size: aws.ToInt64(out.ContentLength), ETag: aws.ToString(out.ETag), Modified: aws.ToTime(out.LastModified),
	}, nil
}

// List implements Store.
func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		pages := s3.NewListObjectsV2Paginator(b.client, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: aws.String(b.prefix + prefix)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Info{}, b.failed("list", prefix, err))
				return
			}
			for _, o := range page.Contents {
				info := Info{
					Key:  strings.TrimPrefix(aws.ToString(o.Key), b.prefix),
					Size: aws.ToInt64(o.Size), ETag: aws.ToString(o.ETag), Modified: aws.ToTime(o.LastModified),
				}
				if !yield(info, nil) {
					return
				}
			}
		}
	}
}

// Delete implements Store.
func (b *bucket) Delete(ctx context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return err
	}
	_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: aws.String(b.prefix + key)})
	if err = b.failed("delete", key, err); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return nil
}

func (b *bucket) String() string { return b.where }

// failed marks an error as one of the contract's, and says what to look at.
func (b *bucket) failed(what, key string, err error) error {
	if err == nil {
		return nil
	}
	var api smithy.APIError
	var response *smithyhttp.ResponseError
	code, status := "", 0
	if errors.As(err, &api) {
		code = api.ErrorCode()
	}
	if errors.As(err, &response) {
		status = response.HTTPStatusCode()
	}
	switch {
	case code == "InvalidAccessKeyId", code == "SignatureDoesNotMatch", code == "ExpiredToken", code == "XAdminUserNotFound", // versitygw's, with 404
		status == http.StatusUnauthorized:
		return fmt.Errorf("%s %s in %s: %w: it does not know the credentials (%s); look at AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY", what, key, b.where, ErrDenied, code)
	case code == "NoSuchBucket":
		return fmt.Errorf("%s %s: %w: make it, or mend the name in %s", what, key, ErrNoBucket, b.where)
	case code == "NoSuchKey", code == "NotFound", status == http.StatusNotFound && what != "list": // of a list, it is about something else
		return fmt.Errorf("%s %s in %s: %w", what, key, b.where, ErrNotFound)
	case code == "PreconditionFailed", code == "ConditionalRequestConflict", status == http.StatusPreconditionFailed:
		return fmt.Errorf("%s %s in %s: %w", what, key, b.where, ErrPrecondition)
	case code == "AccessDenied", status == http.StatusForbidden:
		return fmt.Errorf("%s %s in %s: %w: the credentials lack a right to it; they need to list, get, put and delete", what, key, b.where, ErrDenied)
	}
	if status == 0 && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s %s in %s: no answer; look at the endpoint, the network, and where credentials come from: %w", what, key, b.where, err)
	}
	if api != nil { // without the request's id, so that the same trouble is the same text
		err = api
	}
	return fmt.Errorf("%s %s in %s: status %d: %w", what, key, b.where, status, err)
}
