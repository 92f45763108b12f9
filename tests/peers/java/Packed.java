import io.grpc.Codec;
import io.grpc.DecompressorRegistry;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.util.concurrent.atomic.AtomicBoolean;

/** Tells of the message received last whether it travelled compressed, which grpc-java does not: its gunzip does. */
final class Packed {
  private final AtomicBoolean gunzipped = new AtomicBoolean();
  final DecompressorRegistry registry;

  Packed() {
    Codec gzip = new Codec.Gzip();
    Codec noting =
        new Codec() {
          @Override
          public String getMessageEncoding() {
            return gzip.getMessageEncoding();
          }

          @Override
          public InputStream decompress(InputStream stream) throws IOException {
            gunzipped.set(true);
            return gzip.decompress(stream);
          }

          @Override
          public OutputStream compress(OutputStream stream) throws IOException {
            return gzip.compress(stream);
          }
        };
    registry = DecompressorRegistry.emptyInstance().with(Codec.Identity.NONE, false).with(noting, true);
  }

  /** Whether a message was unpacked since this was asked last. Messages come one by one in these tests. */
  boolean taken() {
    return gunzipped.getAndSet(false);
  }
}
