"""The words that the sentence reader knows, and what each of them means."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

LEVELS = ("upper", "middle", "lower")


class Kind(Enum):
    """The part that a word plays in a sentence."""

    SIDE = auto()
    LETTER = auto()  # "l" and "r": a side or the rest of a split word, as its neighbours say
    LEVEL = auto()
    ZONE = auto()  # a side and a level in one word: RUL, lingula
    DIFFUSE = auto()
    UNILATERAL = auto()
    BILATERAL = auto()
    ORGAN = auto()
    PART = auto()
    NEGATION = auto()
    CLEAR = auto()
    RESOLVED = auto()
    SEEN = auto()
    CHANGE = auto()
    EXCEPT = auto()
    BREAK = auto()
    AND = auto()
    OR = auto()
    LINK = auto()
    RANGE = auto()
    COMMA = auto()
    STOP = auto()
    NUMBER = auto()
    FINDING = auto()
    PLEURAL = auto()
    STRUCTURE = auto()
    BOWEL = auto()
    COMPARE = auto()
    SIZE = auto()
    PLAIN = auto()
    UNKNOWN = auto()


@dataclass(frozen=True)
class Entry:
    """What a word means.

    Attributes:
        kind: the part that it plays.
        values: the side, the levels, or the side followed by the levels of a `Kind.ZONE`.
        number: the value of a number word.
        plural: whether it speaks of both lungs when no side is named ("lower lobes", "bases").
    """

    kind: Kind
    values: tuple[str, ...] = ()
    number: int | None = None
    plural: bool = False


_NUMBERS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen twenty"
)

# kind, values, words
_PLACES: tuple[tuple[Kind, tuple[str, ...], str], ...] = (
    (Kind.SIDE, ("left",), "left lt leftward leftwards leftmost lefthand"),
    (Kind.SIDE, ("right",), "right rt rightward rightwards rightmost righthand"),
    (Kind.SIDE, ("left", "right"), "both either neither"),
    (Kind.SIDE, ("center",), "center centre centered centred centrally central"),
    (Kind.LETTER, ("left",), "l"),
    (Kind.LETTER, ("right",), "r"),
    (Kind.LEVEL, ("upper",), "upper top higher uppermost superior topmost apical apex suprahilar"),
    (Kind.LEVEL, ("middle",), "middle mid midlung midzone perihilar hilar hilum parahilar mediobasal"),
    (
        Kind.LEVEL,
        ("lower",),
        "lower bottom inferior lowest lowermost base basal basilar basally infrahilar costophrenic",
    ),
    (Kind.LEVEL, LEVELS, "all whole entire"),
    (Kind.ZONE, ("left", "upper"), "lul luz lulobe"),
    (Kind.ZONE, ("left", "middle"), "lml lmz lingula lingular lingulae"),
    (Kind.ZONE, ("left", "lower"), "lll llz"),
    (Kind.ZONE, ("right", "upper"), "rul ruz"),
    (Kind.ZONE, ("right", "middle"), "rml rmz"),
    (Kind.ZONE, ("right", "lower"), "rll rlz"),
    (Kind.ZONE, ("both", "lower"), "bibasilar bibasal bibasally bibasilarly"),
    (Kind.ZONE, ("both", "upper"), "biapical biapically"),
    (Kind.ZONE, ("both", "middle"), "bihilar biperihilar"),
    (Kind.DIFFUSE, (), "diffuse diffusely throughout everywhere widespread generalized generalised panlobar"),
    (Kind.UNILATERAL, (), "unilateral unilaterally unilat"),
    (Kind.BILATERAL, (), "bilateral bilaterally bilat bil b/l"),
    (Kind.ORGAN, ("lung",), "lung hemithorax thorax"),
    (Kind.ORGAN, ("lobe",), "lobe zone field lobar quadrant region corner"),
    (Kind.PART, (), "half side third thirds halves"),
)

_PLURALS: tuple[tuple[Kind, tuple[str, ...], str], ...] = (
    (Kind.ORGAN, ("lung",), "lungs"),
    (Kind.ORGAN, ("lobe",), "lobes zones fields quadrants regions corners"),
    (Kind.LEVEL, ("upper",), "apices apexes"),
    (Kind.LEVEL, ("middle",), "hila midzones"),
    (Kind.LEVEL, ("lower",), "bases"),
    (Kind.PART, (), "sides"),
)

_ROLES: tuple[tuple[Kind, str], ...] = (
    (Kind.NEGATION, "no not without w/o cannot nor never none denies deny non nil free negative neg"),
    (Kind.CLEAR, "clear normal unremarkable uninvolved unaffected intact disease-free"),
    (Kind.RESOLVED, "resolved cleared absent gone disappeared spared"),
    (
        Kind.SEEN,
        "seen present identified visualized visualised evident visible detected noted found appreciated",
    ),
    (
        Kind.CHANGE,
        "change changes improvement increase decrease worsening progression doubt exclude excluded rule ruled only "
        "resolution differ improved",
    ),
    (Kind.EXCEPT, "except excepting excluding sparing"),
    (Kind.BREAK, "but however although though while whereas yet nevertheless"),
    (Kind.AND, "and plus & + /"),
    (Kind.OR, "or"),
    (
        Kind.LINK,
        "of in on at within involving involves affecting over off inside located for with w/ showing shows "
        "demonstrating into near along around associated : overlying",
    ),
    (Kind.RANGE, "to through thru"),
    (
        Kind.COMPARE,
        "greater more worse than predominantly mainly mostly predominant especially particularly > < less "
        "predominance dominant chiefly",
    ),
    (Kind.SIZE, "tiny small medium large big huge diminutive giant"),
    (
        Kind.FINDING,
        "infection infections infected area areas lesion lesions opacity opacities opacification opacifications "
        "consolidation consolidations consolidative infiltrate infiltrates infiltration pneumonia pneumonitis nodule "
        "nodules mass masses focus foci spot spots patch patches ggo ggos covid finding findings abnormality "
        "abnormalities abnormal disease involvement airspace atelectasis edema oedema collapse abscess cavity "
        "cavitation shadow shadows shadowing haziness haze density densities polyp polyps adenoma adenomas tumor "
        "tumour tumors tumours fibrosis scarring bronchiectasis bronchopneumonia affected involved",
    ),
    (Kind.PLEURAL, "pleural effusion effusions pneumothorax pneumothoraces pleura"),
    (
        Kind.STRUCTURE,
        "heart cardiac ventricle ventricular atrium atrial clavicle clavicles rib ribs shoulder arm picc line lines "
        "catheter tube tubes diaphragm hemidiaphragm subclavian jugular port pacemaker scapula humerus aorta aortic "
        "mediastinum mediastinal breast bronchus mainstem trachea abdomen abdominal subpulmonic gi "
        "mastectomy axilla axillary neck limb segment segments vena hemidiaphragms airway respiratory leg",
    ),
    (
        Kind.BOWEL,
        "colon hemicolon flexure colectomy hepatic splenic sigmoid rectum rectal cecum caecum ileum transverse",
    ),
)

# Ordinary words: they say nothing about place, and are never taken for a misspelt word that does.
_PLAIN = """
toe outright downright forthright copyright birthright baseline midline
a an the this that these those there here is are was were be been being has have had do does did it its as
by from so if then when where which who whose about above across after again also any among apart other
otherwise before below beneath besides between beyond both due each else few further given hence how just
last later least like many may might much must new next now old once onto our out own per same several she
he they we you some still such sure up down until via very well what will would because can could should
shall off too us than them their his her him longer cardiopulmonary internal external pulmonary chest
radiograph radiographs xray ray film image images imaging ct scan view portable upright supine ap pa frontal
lateral posterior anterior medial interior exterior oblique projection examination exam study comparison
prior previous previously history indication impression technique report patient patients year years aged
age male female man woman day days status post fever cough dyspnea shortness breath pain acute chronic
subacute mild mildly moderate moderately severe severely extensive minimal slight slightly subtle faint
dense hazy patchy focal multifocal confluent linear streaky reticular interstitial alveolar ground glass
nodular round rounded oval irregular ill defined peripheral peripherally subpleural increasing decreasing
improving worsened stable unchanged persistent likely probable probably possible possibly suggestive
suspicious consistent compatible concerning represent represents representing reflect reflects reflecting
secondary evidence sign signs significant interval appreciable definite obvious overt gross appearance
appear appears appearing pattern process type size sized volume volumes level levels part parts portion
portions aspect aspects sided based number total multiple numerous scattered single solitary sole couple
pair various bacterial viral fungal typical atypical aspiration lobed multilobar typically vascular
congestion markings marking silhouette contour border borders angle angles thickening wall walls bony
osseous soft tissue tissues structures structure remaining rest remainder elsewhere remains remain light
bright brighter weight height eighth felt cleft leaf shower over cover lowered low high paper under mind aid
case cases basic basis phase cast vast best nest test love probe probes robe globe long along clung flung
hung sung young lying lingual singular typify topical optical nasal fatal vital button cotton renter inner
outer outside cancer clean cleaned clearly unclear nearly lean learn formal abnormally call fall hall ball
tall tell till ago ant art eat ear era net set get yet lit lot lie led leg legs 's stop tap step pop bone
tone done gone cone lone fine mine pine spine thin tree live give hive dive sex mix fix hour your tour tooth
tongue mouth thumb nose finger knee elbow kidney mushroom bean egg pear dome teardrop diamond star triangle
triangular square rectangle rectangular octagon octagonal circle circular ovoid heart shape shaped bump lump
protrusion ossification flat raised elevated sessile pedunculated stalk ulcerated smooth rough surface
colonic colonoscopy endoscopic endoscopy intestinal mucosa mucosal intestine bowel red pink white yellow
brown orange tan black peach purple gray grey green blue dark pale reddish whitish picture frame photo
visual camera display screen ring cylinder cylindrical allocated office threonine sedative collateral
basolateral negatively hole throughput washout lowers ease gas gases lose ones basin broth hither hand
fashion overall alright moved placement position positioned sitting standing please find show describe mark
marked outline outlined bad good really quite rather observed suggests suggesting indicating indicates
indicate shown demonstrates reveals revealing consists cavitary known unknown unlikely doubtful compared
relative today yesterday week weeks month months hospital ward icu intubated ventilated oxygen positive sars
cov corona virus coronavirus tuberculosis tb influenza pcr bronchial peribronchial perivascular parenchymal
parenchyma lobular centrilobular septal crazy paving halo reverse bronchogram bronchograms air fluid
trapping bulla bullae emphysema emphysematous hyperinflation hyperinflated copd asthma granuloma calcified
calcification calcifications lymph node nodes lymphadenopathy cardiomegaly enlarged blunting blunted
elevation tortuous degenerative spinal thoracic vertebral fracture fractures surgical clips posteriorly
anteriorly laterally medially superiorly inferiorly sections section slice slices axial coronal sagittal
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Words that a misspelt word may stand for.
CORRECTABLE = _words("""
left right upper middle lower all lung lungs lobe lobes zone zones base bases basal basilar apical apices
lingula perihilar higher superior inferior center centre bottom both unilateral bilateral bilaterally
bibasilar pulmonary infection infections infected area areas without polyp polyps located consolidation
consolidations opacity opacities opacification pneumonia small medium large image diffuse clear normal
throughout entire whole infiltrate infiltrates lesion lesions negative round white peripheral
""")

# English words that no report of an image needs, one slip away from a side or a level: never read without a
# place that calls for one, and reported then too.
SUSPECT = _words("""
let lest lent loft deft night sight tight fight fright flight plight power tower flower slower lover supper
upped kid hid amid bare vase tip tow enter glove lets
""")

# Ordinary words that a slip may have been meant for instead.
DISTRACTORS = _words("""
upright bright slight light eight height weight felt cleft are cover over case
""")

# Words of which glued words are made up.
GLUED = _words("""
and one two three four five six seven eight nine zero infected area areas upper middle lower left right all
lung lungs lobe lobes zone zones unilateral bilateral pulmonary infection of the in both no without higher
base bases polyp located top bottom center small medium large sided with opacity consolidation image is on
at to mid
""")

# Neighbours of a letter on a QWERTY keyboard: the slips that a hand makes.
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")


def _lexicon() -> dict[str, Entry]:
    words = {word: Entry(Kind.PLAIN) for word in _PLAIN.split()}
    for kind, listed in _ROLES:
        words.update((word, Entry(kind)) for word in listed.split())
    for plural, places in ((False, _PLACES), (True, _PLURALS)):
        for kind, values, listed in places:
            words.update((word, Entry(kind, values, plural=plural)) for word in listed.split())
    for number, word in enumerate(_NUMBERS.split()):
        words[word] = Entry(Kind.NUMBER, number=number)
    words["single"] = words["solitary"] = words["sole"] = Entry(Kind.NUMBER, number=1)
    words["thirty"], words["couple"] = Entry(Kind.NUMBER, number=30), Entry(Kind.NUMBER, number=2)
    return words


def _adjacent_keys() -> frozenset[tuple[str, str]]:
    place = {
        key: (row, column + row / 2) for row, keys in enumerate(_ROWS) for column, key in enumerate(keys)
    }
    return frozenset(
        (a, b)
        for a, (row_a, column_a) in place.items()
        for b, (row_b, column_b) in place.items()
        if a != b and abs(row_a - row_b) <= 1 and abs(column_a - column_b) <= 1
    )


LEXICON: dict[str, Entry] = _lexicon()
ADJACENT_KEYS = _adjacent_keys()
UNCOUNTED = _words("infected infection abnormal consolidative airspace affected involved covid")
