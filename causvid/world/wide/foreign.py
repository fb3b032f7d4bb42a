"""Names of the things in four more languages: other words for the ones that are learnt.

A tokenizer replaces them before it looks words up (`word_tokenizer`, `aliases`), so that they need
no training. German, French, Spanish and Italian, without accents, from the Unicode CLDR through
PyPI's `emoji` (Unicode License v3); names of one word that mean nothing else here.
"""

_NAMES = """
ball=ballon/pelota/palla balloon=heissluftballon/montgolfiere/globo/mongolfiera
car=auto/voiture/coche/macchina boat=segelboot/bateau/barco/barca bird=vogel/oiseau/pajaro/uccello
rocket=rakete/fusee/cohete/razzo cat=katze/chat/gato/gatto dog=hund/chien/perro
horse=pferd/cheval/caballo/cavallo cow=kuh/vache/vaca/mucca pig=schwein/cochon/cerdo/maiale
sheep=schaf/mouton/oveja/pecora goat=ziege/chevre/cabra/capra elephant=elefant/elefante
giraffe=girafe/jirafa/giraffa zebra=zebre/cebra rhino=nashorn/rinoceronte
hippo=nilpferd/hippopotame/hipopotamo/ippopotamo camel=dromedar/dromadaire/dromedario
kangaroo=kanguru/kangourou/canguro tiger=tigre leopard=leopardo rabbit=hase/lapin/conejo/coniglio
mouse=maus/souris/raton/topo rat=ratte/rata/ratto
squirrel=streifenhornchen/ecureuil/ardilla/scoiattolo hedgehog=igel/herisson/erizo/riccio
deer=hirsch/cerf/ciervo/cervo ox=ochse/boeuf/buey/bue llama=lama monkey=affe/singe/scimmia
gorilla=gorille/gorila orangutan=orangotango sloth=faultier/paresseux/perezoso/bradipo
otter=loutre/nutria/lontra rooster=hahn/coq/gallo hen=huhn/poule/gallina
chick=kuken/poussin/pollito/pulcino penguin=pinguin/pingouin/pinguino
turkey=truthahn/dindon/pavo/tacchino peacock=pfau/paon/pavone
flamingo=flamant/flamenco/fenicottero turtle=schildkrote/tortue/tortuga/tartaruga
crocodile=krokodil/cocodrilo/coccodrillo lizard=eidechse/lezard/lagarto/lucertola
snake=schlange/serpent/serpiente/serpente brontosaurus=sauropode/sauropodo
snail=schnecke/escargot/caracol/lumaca caterpillar=raupe/chenille/bicho/insetto
ant=ameise/fourmi/hormiga/formica ladybug=marienkafer/coccinelle/mariquita/coccinella
spider=spinne/araignee/arana/ragno crab=krebs/crabe/cangrejo/granchio
cricket=grille/criquet/grillo fox=fuchs/renard/zorro/volpe bear=ours/oso/orso lion=lowe/leon/leone
wolf=loup/lobo/lupo frog=frosch/grenouille/rana duck=ente/canard/pato/anatra
swan=schwan/cygne/cisne/cigno bison=bisonte mammoth=mammut/mammouth/mamut dancer=danseuse
walker=pedone wizard=mage/mago robot=roboter ghost=gespenst/fantome/fantasma
alien=ausserirdischer/alienigena/alieno unicorn=einhorn/licorne/unicornio/unicorno
dragon=drachengesicht jeep=wohnmobil/suv bus=autobus firetruck=feuerwehrauto
ambulance=krankenwagen/ambulancia/ambulanza truck=lieferwagen/camion
trailer=sattelzug/autoarticolato tractor=traktor/tracteur/trattore racer=rennauto
motorcycle=motorrad/moto/motocicletta scooter=motorroller
bicycle=fahrrad/velo/bicicleta/bicicletta locomotive=dampflokomotive/locomotiva
van=kleinbus/minibus/pulmino skateboard=monopatin pickup=camioneta cyclist=cycliste/ciclista
metro=zug/tren/treno cart=einkaufswagen/chariot/carrello eagle=adler/aigle/aguila/aquila
parrot=papagei/perroquet/loro/pappagallo owl=eule/chouette/buho/gufo
bat=fledermaus/murcielago/pipistrello bee=biene/abeille/abeja/ape
butterfly=schmetterling/papillon/mariposa/farfalla housefly=fliege/mouche/mosca
airplane=flugzeug/avion/aeroplano helicopter=hubschrauber/helicoptere/helicoptero/elicottero
plane=avioneta kite=drachen/cometa/aquilone satellite=satellit/satelite
parachute=fallschirm/paracaidas/paracadute cloud=wolke/nuage/nube/nuvola
snowflake=schneeflocke/flocon moon=mondsichel/luna planet=ringplanet star=etoile/estrella/stella
leaf=ahornblatt feather=feder/plume/pluma/piuma fish=fisch/poisson/pez/pesce pufferfish=kugelfisch
shark=hai/requin/tiburon/squalo dolphin=delfin/dauphin/delfino octopus=oktopus/pieuvre/pulpo/polpo
squid=tintenfisch/calamar/calamaro shrimp=garnele/crevette/gamba/gamberetto
seal=seehund/phoque/foca yacht=voilier/velero speedboat=schnellboot/motoscafo motorboat=motorboot
steamer=schiff/navire/nave ferry=fahre/ferri/traghetto football=fussball baseball=beisbol
pear=birne/poire/pera tangerine=mandarine/mandarina/mandarino lemon=zitrone/citron/limon/limone
banana=banane/platano melon=wassermelone/pasteque/sandia/anguria grapes=trauben/raisin/uvas/uva
strawberry=erdbeere/fraise/fresa/fragola blueberries=blaubeeren/myrtilles/arandanos/mirtilli
cherries=kirschen/cerises/cerezas/ciliegie peach=pfirsich/peche/melocoton/pesca
pineapple=ananas/pina tomato=tomate/pomodoro avocado=avocat/aguacate aubergine=berenjena/melanzana
carrot=karotte/carotte/zanahoria/carota corn=maiskolben/pannocchia chilli=peperoni/peperoncino
cucumber=gurke/concombre/pepino/cetriolo broccoli=brokkoli/brocoli
onion=zwiebel/oignon/cebolla/cipolla mushroom=fliegenpilz/champignon/champinon/fungo
potato=kartoffel/patata croissant=cruasan bread=brot cheese=kasestuck hamburger=hamburguesa
fries=frites/patatine egg=oeuf/huevo/uovo doughnut=ciambella cookie=keks/galleta/biscotto
cake=geburtstagskuchen cupcake=magdalena candy=bonbon/caramelo/caramella icecream=softeis
honey=honigtopf coffee=heissgetrank sunflower=sonnenblume/tournesol/girasol/girasole rose=rosa
flower=kirschblute daisy=bourgeon/flor/fiore cactus=kaktus palm=palme/palmier/palmera/palma
pine=nadelbaum/conifere tree=laubbaum clover=glucksklee/quadrifoglio
pumpkin=halloweenkurbis/citrouille plant=topfpflanze teddy=teddybar/orsetto
dice=spielwurfel/dado puzzle=puzzleteil gift=geschenk/cadeau/regalo bow=ruban/lazo/fiocco
doll=matroschka/matrioska guitar=gitarre/guitare/guitarra/chitarra violin=geige/violon/violino
trumpet=trompete/trompette/trompeta/tromba drum=trommel/batterie/tambor/tamburo piano=klaviatur
bell=glocke/cloche/campana trophy=pokal/trophee/trofeo/coppa crown=krone/couronne/corona
diamond=edelstein/gemma key=schlussel/cle/llave/chiave anchor=anker/ancre/ancla/ancora
lightbulb=gluhbirne/ampoule/bombilla/lampadina candle=kerze/bougie/vela/candela
fire=feuer/feu/fuego/fuoco droplet=tropfen/gota/goccia umbrella=regenschirm/paraguas/ombrello
glasses=brille/gafas hat=zylinder/cilindro cap=baseballmutze shoe=sportschuh boot=damenstiefel
dress=kleid/vestido/vestito shirt=camiseta socks=socken/chaussettes/calcetines/calzini
gloves=handschuhe/gants/guantes/guanti backpack=schulranzen/cartable/zaino
briefcase=aktentasche/maletin handbag=handtasche/bolso/borsa clock=wecker/reveil/sveglia
watch=armbanduhr/montre/reloj/orologio television=fernseher/televiseur/televisore
phone=mobiltelefon pencil=bleistift/crayon/lapiz/matita brush=pinsel/pinceau/pincel/pennello
scissors=schere/ciseaux/tijeras/forbici hammer=marteau/martillo/martello chair=stuhl/silla/sedia
bed=bett/cama/letto broom=besen/balai/escoba/scopa basket=korb/panier/cesta/cesto
bucket=eimer/seau/cubo/secchio box=paket/colis/paquete/pacco house=haus/maison
castle=schloss/chateau/castello tent=zelt/tente/tenda statue=moai
fountain=springbrunnen/fontaine/fuente/fontana skull=totenkopf/calavera/teschio
eye=auge/oeil/ojo/occhio bone=knochen/hueso/osso gear=zahnrad/engranaje/ingranaggio
target=darts/diana/bersaglio shell=schneckenhaus/caracola/conchiglia
"""
_OTHERS = """
the=ein/eine/einen/der/die/das/un/une/una/uno/le/la/les/el/los/las/il/lo/gli
and=und/et/y/e
red=rot/rote/roter/rotes/rouge/rojo/roja/rosso/rossa green=gruen/grun/grune/gruner/vert/verte/verde
blue=blau/blaue/blauer/blaues/bleu/bleue/azul/blu yellow=gelb/gelbe/gelber/jaune/amarillo/giallo
black=schwarz/schwarze/noir/noire/negro/nero white=weiss/weisse/blanc/blanche/blanco/bianco
two=zwei/deux/dos/due night=nacht/nuit/noche/notte snow=schnee/neige/nieve/neve
rain=regen/pluie/lluvia/pioggia sea=meer/mer/mar
"""

ALIASES: dict[str, tuple[str, ...]] = {
    word: tuple(others.split("/"))
    for entry in (_NAMES + _OTHERS).split()
    for word, _, others in [entry.partition("=")]
}
"""Word of the vocabulary → words that are read as it."""
