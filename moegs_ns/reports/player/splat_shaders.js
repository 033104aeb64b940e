// Shaders that draw Gaussians as quads: their covariance is projected as in EWA splatting.

const PER_ROW = 512; // Gaussians in a row of the textures
const MAX_KINDS = 16;

/** Lines of a shader, one for each number below `count`. */
const upTo = (count, line) => Array.from({ length: count }, (_, k) => line(k)).join("\n");

/** @param layers textures behind the colour's, of three features of the router each */
const splatVertexShader = (layers) => `#version 300 es
precision highp float;
precision highp int;
layout(location = 0) in vec2 corner;
layout(location = 1) in uint row;
uniform highp sampler2D state;
uniform highp sampler2D slopes;
uniform highp sampler2D features;
uniform mat4 view;
uniform vec4 lens;
uniform vec2 size;
uniform vec3 eye;
uniform vec4 kinds[${MAX_KINDS}];
uniform vec4 tints[${MAX_KINDS}];
uniform vec3 slopeLow[3];
uniform vec3 slopeStep[3];
uniform bool byExpert;
uniform bool asOneSet;
out vec2 deviation;
flat out vec4 color;
${upTo(layers, (k) => `flat out vec3 feature${k};`)}

const float SMALLEST_ALPHA = 1.0 / 255.0;
const float MARGIN = 0.15;  // of the field of view, beyond which the projection is not linearised
const float LINEAR = 0.4886025119029199;

vec3 seenColor(vec3 base, vec3 centre, ivec2 place) {
  vec3 d = normalize(centre - eye);
  vec3 found = base;
  for (int k = 0; k < 3; k++) {
    vec3 code = texelFetch(slopes, ivec2(place.x * 3 + k, place.y), 0).rgb * 255.0;
    vec3 slope = slopeLow[k] + slopeStep[k] * code;
    found += LINEAR * (k == 1 ? d.z : k == 0 ? -d.y : -d.x) * slope;
  }
  return max(found, 0.0);
}

void main() {
  gl_Position = vec4(0.0, 0.0, 2.0, 1.0);  // outside, for all that is not drawn
  ivec2 place = ivec2(int(row) % ${PER_ROW}, int(row) / ${PER_ROW});
  ivec2 texel = ivec2(place.x * 4, place.y);
  vec4 centre = texelFetch(state, texel, 0);
  vec4 q = texelFetch(state, texel + ivec2(1, 0), 0);
  vec4 scaleKind = texelFetch(state, texel + ivec2(2, 0), 0);
  vec4 baseShare = texelFetch(state, texel + ivec2(3, 0), 0);
  vec4 kind = kinds[int(scaleKind.w + 0.5)];  // near plane, eps2d, antialiased, shown
  vec4 tint = tints[int(scaleKind.w + 0.5)];
  vec3 p = (view * vec4(centre.xyz, 1.0)).xyz;
  if (p.z <= kind.x || kind.w < 0.5) return;

  q /= length(q);
  float w = q.x, x = q.y, y = q.z, z = q.w;
  mat3 spread = mat3(
    scaleKind.x * vec3(1.0 - 2.0 * (y * y + z * z), 2.0 * (x * y + w * z), 2.0 * (x * z - w * y)),
    scaleKind.y * vec3(2.0 * (x * y - w * z), 1.0 - 2.0 * (x * x + z * z), 2.0 * (y * z + w * x)),
    scaleKind.z * vec3(2.0 * (x * z + w * y), 2.0 * (y * z - w * x), 1.0 - 2.0 * (x * x + y * y)));
  vec2 least = -lens.zw / lens.xy - MARGIN * size / lens.xy;
  vec2 most = (size - lens.zw) / lens.xy + MARGIN * size / lens.xy;
  vec2 slope = clamp(p.xy / p.z, least, most);
  mat3 rotation = mat3(view);
  vec3 rowX = vec3(lens.x / p.z, 0.0, -slope.x * lens.x / p.z) * rotation * spread;
  vec3 rowY = vec3(0.0, lens.y / p.z, -slope.y * lens.y / p.z) * rotation * spread;
  float xx = dot(rowX, rowX), xy = dot(rowX, rowY), yy = dot(rowY, rowY);
  float before = xx * yy - xy * xy;
  xx += kind.y;
  yy += kind.y;
  float after = xx * yy - xy * xy;
  if (!(after > 0.0)) return;
  float opacity = centre.w * (asOneSet ? baseShare.w : 1.0);
  if (kind.z > 0.5) opacity *= sqrt(max(before / after, 1e-12));
  if (opacity < SMALLEST_ALPHA) return;

  float mean = 0.5 * (xx + yy);
  float difference = sqrt(max(mean * mean - after, 0.0));
  vec2 axis = abs(xy) > 1e-6 * mean ? normalize(vec2(xy, mean + difference - xx))
    : xx >= yy ? vec2(1.0, 0.0) : vec2(0.0, 1.0);
  float reach = sqrt(2.0 * log(opacity / SMALLEST_ALPHA));
  deviation = reach * corner;
  vec2 offset = deviation.x * sqrt(mean + difference) * axis
    + deviation.y * sqrt(max(mean - difference, 0.0)) * vec2(-axis.y, axis.x);
  vec2 pixel = lens.xy * p.xy / p.z + lens.zw + offset;
  gl_Position = vec4(2.0 * pixel.x / size.x - 1.0, 1.0 - 2.0 * pixel.y / size.y, 0.0, 1.0);
  vec3 seen = seenColor(baseShare.rgb, centre.xyz, place);
  float light = dot(seen, vec3(0.299, 0.587, 0.114));
  color = vec4(byExpert ? tint.rgb * (0.25 + 0.75 * light) : seen, opacity);
${upTo(layers, (k) => `  feature${k} = texelFetch(features, ivec2(place.x * ${layers} + ${k}, place.y), 0).rgb;`)}
}`;

/** Each texture is composited by the same alpha, which it needs as a channel of its own. */
const splatFragmentShader = (layers) => `#version 300 es
precision highp float;
in vec2 deviation;
flat in vec4 color;
${upTo(layers, (k) => `flat in vec3 feature${k};`)}
layout(location = 0) out vec4 result;
${upTo(layers, (k) => `layout(location = ${k + 1}) out vec4 result${k};`)}
void main() {
  float alpha = min(0.999, color.a * exp(-0.5 * dot(deviation, deviation)));
  if (alpha < 1.0 / 255.0) discard;
  result = vec4(color.rgb * alpha, alpha);
${upTo(layers, (k) => `  result${k} = vec4(feature${k} * alpha, alpha);`)}
}`;
